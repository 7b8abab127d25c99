//! What the command line and `backstop.toml` say, as what the api runs on. A `Config` in hand is a
//! valid one.

use std::net::SocketAddr;
use std::path::PathBuf;

use backstop_contract::fidelity::Terms;
use backstop_contract::link::LinkSettings;
use backstop_lua::in_force::Source;
use backstop_lua::{BundleError, InForce, Scope};
use backstop_settings::{Api, Layout, Settings, SettingsError, Token};

/// Everything that the api of one stack needs to know.
pub struct Config {
    /// Where the sockets are.
    pub layout: Layout,
    /// The stack it serves.
    pub stack: String,
    /// `[api]` of `backstop.toml`.
    pub settings: Api,
    /// How the way to core is treated.
    pub link: LinkSettings,
    /// How it is measured how often the fallback agrees with core.
    pub fidelity: Terms,
    /// The rules in force, as they are published.
    pub rules: InForce,
    /// Where it listens beside its socket, for edges on other hosts.
    pub network: Option<Network>,
    /// Whether it starts while another api serves, whose socket is to become its own.
    pub beside: bool,
}

/// A listener that strangers can reach.
pub struct Network {
    /// The address.
    pub listen: SocketAddr,
    /// What every request there has to show.
    pub token: Token,
}

/// Why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The settings file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The rules, where no good ones are kept from before.
    #[error(transparent)]
    Rules(#[from] BundleError),
}

impl Config {
    /// Reads what is in `layout`, and the rules in `rules` or else where the layout has them. To
    /// `listen` on an address takes the hop token in `layout`.
    pub fn read(
        layout: Layout,
        stack: String,
        rules: Option<PathBuf>,
        listen: Option<SocketAddr>,
    ) -> Result<Self, ConfigError> {
        let network = match listen {
            Some(listen) => Some(Network { listen, token: Token::read(&layout.hop_token())? }),
            None => None,
        };
        let (settings, broken) = Settings::in_force(&layout)?;
        if let Some(broken) = broken {
            tracing::error!(%broken, "backstop.toml is broken: the last good copy is in force");
        }
        let (link, fidelity) = (settings.to_core(), settings.fidelity.terms());
        let settings = settings.api;
        let (scope, process) = (Scope::of_stack(&stack), format!("api-{stack}"));
        let memory_bytes_max = settings.policy_memory_bytes_max;
        let rules = Source::new(&layout, (scope, &process), rules, memory_bytes_max);
        let rules = InForce::open(rules)?;
        Ok(Self { layout, stack, settings, link, fidelity, rules, network, beside: false })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use backstop_lua::Bundle;

    use super::*;

    fn read(layout: &Layout, rules: Option<PathBuf>) -> Result<Config, ConfigError> {
        Config::read(layout.clone(), "prod".into(), rules, None)
    }

    fn version_of(config: &Config) -> String {
        config.rules.load().live().version().to_owned()
    }

    /// A directory as the first `up` leaves it.
    fn directory(folder: &Path) -> Layout {
        let layout = Layout::new(folder);
        Bundle::shipped().write_to(layout.rules()).unwrap();
        layout
    }

    #[test]
    fn rules_that_are_named_override_those_in_the_directory() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, mine) = (directory(folder.path()), folder.path().join("mine"));
        Bundle::shipped().write_to(&mine).unwrap();
        fs::remove_dir_all(mine.join("defaults")).unwrap();
        let version = |rules| version_of(&read(&layout, rules).unwrap());
        assert_eq!(version(None), Bundle::shipped().version());
        assert_eq!(version(Some(mine.clone())), Bundle::load(mine).unwrap().version());
    }

    #[test]
    fn nobody_listens_on_an_address_without_a_token_to_ask_for() {
        let folder = tempfile::tempdir().unwrap();
        let layout = directory(folder.path());
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let read = || Config::read(layout.clone(), "prod".into(), None, Some(listen));
        let refused = read().err().unwrap().to_string();
        assert!(refused.contains("hop.token"), "{refused}");
        fs::write(layout.hop_token(), "bsh_0123456789abcdef\n").unwrap();
        assert_eq!(read().unwrap().network.unwrap().listen, listen);
    }

    #[test]
    fn broken_rules_are_refused_with_file_and_line_unless_good_ones_were_kept() {
        let folder = tempfile::tempdir().unwrap();
        let layout = directory(folder.path());
        let file = layout.rules().join("policies/payment.lua");
        let sound = fs::read_to_string(&file).unwrap();
        fs::write(&file, "return {\n  fields = {,\n}").unwrap();
        let refused = read(&layout, None).err().unwrap().to_string();
        assert!(refused.contains("policies/payment.lua:2"), "{refused}");

        fs::write(&file, sound).unwrap();
        let good = version_of(&read(&layout, None).unwrap());
        fs::write(&file, "return 7").unwrap();
        assert_eq!(version_of(&read(&layout, None).unwrap()), good);
    }

    #[test]
    fn what_backstop_toml_cannot_say_is_refused_and_what_it_says_holds() {
        let folder = tempfile::tempdir().unwrap();
        let layout = directory(folder.path());
        fs::write(layout.settings(), "[api]\ntimeout_mim = \"7ms\"\n").unwrap();
        let refused = read(&layout, None).err().unwrap().to_string();
        assert!(refused.contains("timeout_min"), "{refused}");
        fs::write(layout.settings(), "[api]\ntimeout_min = \"7ms\"\n").unwrap();
        let settings = read(&layout, None).unwrap().settings;
        assert_eq!(settings.timeout_min, std::time::Duration::from_millis(7));
    }
}
