//! What data may do, held by its type, so that a slip does not compile.
//!
//! | class | such as | what its type allows |
//! |---|---|---|
//! | public, internal | a verdict, a stack's name | anything: these are plain types |
//! | confidential | a merchant's key, the admin token | to be used where `expose()` is written; it prints as `(confidential)` |
//! | restricted | a body that may hold a card number | to be given to what takes the card numbers out, and nothing else |

use std::fmt;

const CONFIDENTIAL: &str = "(confidential)";

/// What may hold a card number. No code outside this crate can look at it, and in this crate
/// `uncover` is called only where card numbers are refused or replaced.
///
/// A body as a client sent it becomes a [`Request`](crate::Request) in one way:
///
/// ```
/// # use backstop_contract::{HashKey, Problem, Request, class::Restricted, validity};
/// # use bytes::Bytes;
/// fn judge(body: Restricted<Bytes>, terms: &validity::Terms, key: &HashKey) -> Result<Request, Problem> {
///     let (request, _body) = validity::receive(body, terms)?.replace_cards(key);
///     Ok(request)
/// }
/// ```
///
/// It can not be logged,
///
/// ```compile_fail,E0277
/// # use backstop_contract::class::Restricted;
/// format!("{:?}", Restricted::new("4111 1111 1111 1111"));
/// ```
/// ```compile_fail,E0277
/// # use backstop_contract::class::Restricted;
/// format!("{}", Restricted::new("4111 1111 1111 1111"));
/// ```
///
/// stored or sent,
///
/// ```compile_fail,E0277
/// # use backstop_contract::class::Restricted;
/// serde_json::to_vec(&Restricted::new("4111 1111 1111 1111"));
/// ```
///
/// copied into a cache,
///
/// ```compile_fail,E0599
/// # use backstop_contract::class::Restricted;
/// let body = Restricted::new(String::from("4111 1111 1111 1111"));
/// let cached = body.clone();
/// ```
///
/// looked at from another crate,
///
/// ```compile_fail,E0624
/// # use backstop_contract::class::Restricted;
/// let text: &str = Restricted::new("4111 1111 1111 1111").uncover();
/// ```
///
/// or handed to a policy, which is asked with a [`Question`](crate::Question):
///
/// ```compile_fail,E0308
/// # use backstop_contract::{Question, class::Restricted, validity::Received};
/// fn ask(question: &mut Question, received: Restricted<Received>) {
///     question.request = received;
/// }
/// ```
pub struct Restricted<T>(T);

impl<T> Restricted<T> {
    /// Puts a value under restriction. There is no way back but for what takes card numbers out.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the function that refuses or replaces the card numbers in it.
    pub(crate) fn uncover(self) -> T {
        self.0
    }
}

/// What only its holder may know. It can be used, but nobody prints it by accident.
///
/// ```
/// # use backstop_contract::class::Confidential;
/// let token = Confidential::new("bsk_8f3k_secret");
/// assert_eq!(format!("{token} {token:?}"), "(confidential) (confidential)");
/// assert_eq!(token.expose().len(), 15);
/// ```
/// ```compile_fail,E0277
/// # use backstop_contract::class::Confidential;
/// serde_json::to_vec(&Confidential::new("bsk_8f3k_secret"));
/// ```
/// ```compile_fail,E0369
/// # use backstop_contract::class::Confidential;
/// // How long `==` takes would tell how near a guess came.
/// Confidential::new("bsk_8f3k_secret") == Confidential::new("bsk_8f3k_guess");
/// ```
#[derive(Clone, Copy)]
pub struct Confidential<T>(T);

impl<T> Confidential<T> {
    /// Makes a value confidential.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for whoever compares, hashes or sends it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Confidential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CONFIDENTIAL)
    }
}

impl<T> fmt::Display for Confidential<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CONFIDENTIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    /// Whether a type has what a slip would need: an inherent constant hides the trait's, and it is
    /// there only where the bound holds. A compile-fail test alone would also pass for a typing error.
    struct Can<T>(std::marker::PhantomData<T>);

    trait Cannot {
        const PRINT: bool = false;
        const SHOW: bool = false;
        const STORE: bool = false;
        const COPY: bool = false;
    }

    impl<T> Cannot for Can<T> {}

    impl<T: fmt::Debug> Can<T> {
        const PRINT: bool = true;
    }
    impl<T: fmt::Display> Can<T> {
        const SHOW: bool = true;
    }
    impl<T: Serialize> Can<T> {
        const STORE: bool = true;
    }
    impl<T: Clone> Can<T> {
        const COPY: bool = true;
    }

    macro_rules! can {
        ($of:ty) => {
            [Can::<$of>::PRINT, Can::<$of>::SHOW, Can::<$of>::STORE, Can::<$of>::COPY]
        };
    }

    #[test]
    fn what_is_restricted_can_not_be_printed_shown_stored_or_copied() {
        assert_eq!(can!(String), [true; 4], "the check sees what a type can");
        assert_eq!(can!(Restricted<String>), [false; 4]);
        assert_eq!(can!(Option<Restricted<String>>), [false; 4]);
        assert_eq!(can!(Restricted<crate::validity::Received>), [false; 4]);
    }

    #[test]
    fn what_is_confidential_prints_as_that_alone_also_within_other_things() {
        assert_eq!(can!(Confidential<String>), [true, true, false, true]);
        let key = Confidential::new("bsk_id_secret");
        assert_eq!(format!("{key}|{key:?}|{key:#?}|{key:>40}"), [CONFIDENTIAL; 4].join("|"));
        assert_eq!(format!("{:?}", Some(key)), "Some((confidential))");
        assert_eq!(*key.expose(), "bsk_id_secret");
    }
}
