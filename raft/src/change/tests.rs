use super::*;

fn entry(kind: EntryType, data: Vec<u8>) -> Entry {
    let mut entry = Entry { index: 5, data: data.into(), ..Entry::default() };
    entry.set_entry_type(kind);
    entry
}

#[test]
fn changes_come_back_with_where_the_new_ones_live() {
    let changes = [Change::AddLearner(7, NodeId(70)), Change::AddVoter(8, NodeId(80)), Change::Remove(9)];
    let sent = message(&changes);
    let bytes = sent.write_to_bytes().expect("a message without required fields");
    let (read, nodes) = decode(&entry(EntryType::EntryConfChangeV2, bytes)).expect("what we encoded");
    assert_eq!(read, sent);
    assert_eq!(nodes, [(7, NodeId(70)), (8, NodeId(80))]);
    let kinds: Vec<_> = read.changes.iter().map(|c| (c.get_change_type(), c.node_id)).collect();
    assert_eq!(kinds, [(ConfChangeType::AddLearnerNode, 7), (ConfChangeType::AddNode, 8), (ConfChangeType::RemoveNode, 9)]);
}

#[test]
fn an_empty_one_leaves_a_joint_configuration() {
    let (read, nodes) = decode(&entry(EntryType::EntryConfChangeV2, Vec::new())).expect("nothing at all");
    assert!(read.leave_joint() && nodes.is_empty());
}

#[test]
fn one_of_the_old_kind_is_one_of_the_new() {
    let mut old = ConfChange { node_id: 7, ..ConfChange::default() };
    old.set_change_type(ConfChangeType::RemoveNode);
    let (read, _) = decode(&entry(EntryType::EntryConfChange, old.write_to_bytes().expect("a message"))).expect("what we encoded");
    assert_eq!(read.changes.iter().map(|c| (c.get_change_type(), c.node_id)).collect::<Vec<_>>(), [(ConfChangeType::RemoveNode, 7)]);
}

#[test]
fn what_is_cut_is_refused() {
    let mut sent = message(&[Change::AddVoter(8, NodeId(80))]);
    sent.context.truncate(15);
    let bytes = sent.write_to_bytes().expect("a message");
    assert!(decode(&entry(EntryType::EntryConfChangeV2, bytes)).is_err(), "half a pair");
    assert!(decode(&entry(EntryType::EntryConfChangeV2, vec![0xff; 3])).is_err(), "no message");
}
