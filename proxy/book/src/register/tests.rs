//! One answer per key, whoever asks, leaves and proposes in whatever order.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;

type Waiter = Rc<()>;

fn key(number: u8) -> Key {
    Key::of("demo", &number.to_string())
}

fn hash(number: u8) -> RequestHash {
    RequestHash::from_bytes(&[number; 32]).unwrap()
}

fn turn(register: &mut Register<Waiter>, number: u8) -> (u64, bool) {
    match register.ask(key(number), &hash(1), Waiter::default) {
        Answer::Turn { turn, is_first, .. } => (turn, is_first),
        answer => panic!("{answer:?}"),
    }
}

fn propose(register: &mut Register<Waiter>, number: u8, verdict: Verdict) -> Proposal {
    register.propose(key(number), &hash(1), verdict, TierCode::Edge)
}

const HERE: Position = Position { segment: 3, offset: 64, length: 100 };

#[test]
fn duplicates_share_one_turn_and_the_first_proposal_wins() {
    let mut register = Register::new(10);
    let Answer::Turn { is_first: true, waiter: one, .. } =
        register.ask(key(1), &hash(1), Waiter::default)
    else {
        panic!()
    };
    let Answer::Turn { is_first: false, waiter: two, .. } =
        register.ask(key(1), &hash(1), Waiter::default)
    else {
        panic!()
    };
    assert!(Rc::ptr_eq(&one, &two));
    assert_eq!(propose(&mut register, 1, Verdict::Approve), Proposal::First);
    assert_eq!(propose(&mut register, 1, Verdict::Decline), Proposal::Second);
    let told = register.tell(&key(1)).unwrap();
    assert!(Rc::ptr_eq(&one, &told));
    let Answer::Known(known) = register.ask(key(1), &hash(1), Waiter::default) else { panic!() };
    assert_eq!((known.verdict, known.state), (Verdict::Approve, State::Unsettled));
}

#[test]
fn another_hash_is_another_request_while_it_is_asked_and_after() {
    let mut register = Register::new(10);
    turn(&mut register, 1);
    assert_eq!(register.ask(key(1), &hash(2), Waiter::default), Answer::Other);
    propose(&mut register, 1, Verdict::Approve);
    register.tell(&key(1));
    assert_eq!(register.ask(key(1), &hash(2), Waiter::default), Answer::Other);
}

#[test]
fn who_asks_after_it_was_said_and_before_it_is_told_waits_for_it() {
    let mut register = Register::new(10);
    let (first, _) = turn(&mut register, 1);
    propose(&mut register, 1, Verdict::Approve);
    let (late, is_first) = turn(&mut register, 1);
    assert!(!is_first && !register.is_first(&key(1), late) && !register.is_first(&key(1), first));
    assert!(register.leave(&key(1), first).is_none(), "it is said: nothing to hand on");
    assert!(register.tell(&key(1)).is_some());
}

#[test]
fn a_turn_without_a_word_hands_on_to_the_next_who_still_waits() {
    let mut register = Register::new(10);
    let [first, second, third] = [0; 3].map(|_| turn(&mut register, 1).0);
    assert!(register.leave(&key(1), second).is_none(), "it was not the second's turn");
    assert!(register.leave(&key(1), first).is_some());
    assert!(register.is_first(&key(1), third));
    assert!(register.leave(&key(1), third).is_none());
    assert!(turn(&mut register, 1).1, "all are gone: the next is first");
}

#[test]
fn nothing_is_told_before_it_is_said() {
    let mut register = Register::new(10);
    turn(&mut register, 1);
    assert!(register.tell(&key(1)).is_none());
    assert!(!propose(&mut register, 1, Verdict::Approve).eq(&Proposal::Second));
}

#[test]
fn a_full_register_answers_without_remembering_and_still_once() {
    let mut register = Register::new(1);
    propose(&mut register, 1, Verdict::Approve);
    turn(&mut register, 2);
    assert_eq!(propose(&mut register, 2, Verdict::Approve), Proposal::Unremembered);
    assert_eq!(propose(&mut register, 2, Verdict::Decline), Proposal::Second);
    assert!(register.tell(&key(2)).is_some());
    assert!(turn(&mut register, 2).1, "and is asked anew");
}

#[test]
fn a_segment_is_forgotten_with_what_is_only_in_it() {
    let mut register = Register::new(100_000);
    for number in 0..4 {
        propose(&mut register, number, Verdict::Approve);
        register.moved(&key(number), Some(HERE));
    }
    let elsewhere = Position { segment: 4, ..HERE };
    register.moved(&key(1), Some(elsewhere));
    register.lost(&key(2), 3);
    register.moved(&key(3), None);
    let mut next = Some(0);
    let mut steps = 0;
    while let Some(from) = next {
        next = register.forget(3, from, 7);
        steps += 1;
    }
    assert_eq!(steps, 100_000_usize.div_ceil(KEYS_PER_TABLE).div_ceil(7));
    let known = [0, 1, 2, 3].map(|number| register.known(&key(number)).is_some());
    assert_eq!(known, [false, true, false, true]);
    assert_eq!(register.len(), 2);
    let unsettled = register.counts().into_iter().find(|it| it.entries > 0).unwrap();
    assert_eq!(unsettled, Count { decided_by: "edge", state: "unsettled", entries: 2 });
}

#[test]
fn the_counts_follow_every_state() {
    let mut register: Register<Waiter> = Register::new(10);
    propose(&mut register, 1, Verdict::Approve);
    register.propose(key(2), &hash(1), Verdict::Approve, TierCode::Core);
    let count = |register: &Register<Waiter>, tier, state| {
        let counts = register.counts();
        counts.iter().find(|it| it.decided_by == tier && it.state == state).unwrap().entries
    };
    assert_eq!(count(&register, "core", "final"), 1);
    for (outcome, state) in [
        (Outcome::Applied, "settled"),
        (Outcome::Refused, "set_aside"),
        (Outcome::Newer("moonlight".into()), "settled"),
    ] {
        register.settle(&key(1), State::of(&outcome));
        assert_eq!(count(&register, "edge", state), 1, "{outcome:?}");
        assert_eq!(register.counts().iter().map(|it| it.entries).sum::<u64>(), 2);
    }
}

#[test]
fn an_entry_takes_what_the_settings_say() {
    assert_eq!(size_of::<(Key, Slot)>(), 40);
    let places = 4_096.0 / KEYS_PER_TABLE as f64;
    assert!((41.0 * places) < BYTES_PER_KEY as f64);
    // What deploy/settings says.
    const { assert!(BYTES_PER_KEY <= 60) };
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, u8),
    Leave(usize),
    Propose(u8, bool),
    Tell(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0_u8..4, 0_u8..2).prop_map(|(key, hash)| Step::Ask(key, hash)),
        (0_usize..8).prop_map(Step::Leave),
        (0_u8..4, any::<bool>()).prop_map(|(key, approve)| Step::Propose(key, approve)),
        (0_u8..4).prop_map(Step::Tell),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Against a model: a map from key to the first verdict.
    #[test]
    fn a_key_never_has_two_answers_and_at_most_one_turn_is_first(steps in steps()) {
        let mut register = Register::new(3);
        let mut said: HashMap<u8, Verdict> = HashMap::new();
        let mut turns: Vec<(u8, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Ask(number, of) => match register.ask(key(number), &hash(of), Waiter::default) {
                    Answer::Turn { turn, is_first, .. } => {
                        prop_assert_eq!(is_first, register.is_first(&key(number), turn));
                        turns.push((number, turn));
                    }
                    Answer::Known(known) => prop_assert_eq!(Some(&known.verdict), said.get(&number)),
                    Answer::Other => {}
                },
                Step::Leave(at) => {
                    if at < turns.len() {
                        let (number, turn) = turns.remove(at);
                        register.leave(&key(number), turn);
                    }
                }
                Step::Propose(number, approve) => {
                    let verdict = if approve { Verdict::Approve } else { Verdict::Decline };
                    match register.propose(key(number), &hash(1), verdict, TierCode::Edge) {
                        Proposal::First => prop_assert_eq!(said.insert(number, verdict), None),
                        Proposal::Second => {}
                        Proposal::Unremembered => prop_assert!(register.len() >= 3),
                    }
                }
                Step::Tell(number) => {
                    register.tell(&key(number));
                }
            }
            for number in 0..4 {
                let known = register.known(&key(number)).map(|it| it.verdict);
                prop_assert_eq!(known.as_ref(), said.get(&number));
                let first = turns.iter().filter(|it| it.0 == number);
                let first = first.filter(|it| register.is_first(&key(number), it.1)).count();
                prop_assert!(first <= 1);
            }
        }
    }
}
