use super::*;
use crate::node::shared::Identity;

#[test]
fn a_node_says_who_it_is_from_when_it_knows_to_the_end() {
    let shared = Arc::new(Shared::new());
    let view = View::new(Arc::clone(&shared), 1);
    let who = || (view.about().cluster_id, view.about().node_id);
    assert_eq!(who(), (String::new(), 0));
    let identity = Identity { cluster_id: 0xabc, node_id: 7, homes: 1 };
    let known = || ("0000000000000abc".to_owned(), 7);
    shared.advance(Stage::Recovering(identity));
    assert_eq!(who(), known());
    shared.advance(Stage::Serving { identity, port: 1, ports: Arc::from([2]) });
    assert_eq!(who(), known());
    shared.stop();
    assert_eq!((who(), view.unready()), (known(), vec!["stopping".to_owned()]));
}

#[test]
fn a_node_that_learns_says_why_it_is_not_ready() {
    let shared = Arc::new(Shared::new());
    let view = View::new(Arc::clone(&shared), 1);
    let identity = Identity { cluster_id: 1, node_id: 2, homes: 1 };
    assert_eq!(view.unready(), ["starting"]);
    shared.advance(Stage::Recovering(identity));
    assert_eq!(view.unready(), ["recovering the journals"]);
    shared.set_learning(true);
    assert_eq!(view.unready(), [LEARNING]);
    shared.advance(Stage::Serving { identity, port: 1, ports: Arc::from([2]) });
    assert_eq!(view.unready(), [LEARNING], "its patience is at an end, and clients are told to come later");
    shared.set_learning(false);
    assert_eq!(view.unready(), [""; 0]);
    shared.set_learning(true);
    shared.stop();
    assert_eq!(view.unready(), ["stopping"]);
}

#[test]
fn a_node_that_is_stopped_before_it_knows_says_nothing() {
    let shared = Arc::new(Shared::new());
    shared.stop();
    assert_eq!(View::new(shared, 1).about().cluster_id, "");
}
