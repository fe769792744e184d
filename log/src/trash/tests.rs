use super::*;
use millpond_runtime::{
    IoBuf, NodeId,
    sim::{Sim, SimRt},
};

const NODE: NodeId = NodeId(1);

async fn make(rt: &SimRt, path: &Path, len: usize) {
    rt.create_dir_all(path.parent().expect("not the root")).await.expect("create the directory");
    let file = rt.open(path, Open::Create).await.expect("create");
    let mut bytes = file.buf(len);
    bytes.put_zeros(len);
    file.write_at(0, bytes).await.expect("write");
}

fn on_sim<T: 'static, F: Future<Output = T> + 'static>(task: impl FnOnce(SimRt) -> F) -> T {
    Sim::new(1).block_on(NODE, task).expect("the simulation ends well")
}

#[test]
fn a_file_that_is_used_waits_and_others_do_not() {
    on_sim(|rt| async move {
        let trash = Trash::new(&rt, "/trash".into(), 4096);
        let (one, other) = (Path::new("/files/one"), Path::new("/files/other"));
        make(&rt, one, 8192).await;
        make(&rt, other, 8192).await;
        let (reads, reads_too) = (trash.user(one), trash.user(one));
        assert!(Rc::ptr_eq(&reads, &reads_too));
        let next = || trash.next().map(|taken| taken.path);
        trash.take_all(Path::new("/files"), ["one", "other"].map(String::from)).await.expect("take");
        assert_eq!(rt.list(Path::new("/files")).await.expect("list"), Vec::<String>::new());
        // Another one of the name that has gone: who opens that does not keep the old one.
        make(&rt, one, 4096).await;
        let later = trash.user(one);
        assert!(!Rc::ptr_eq(&reads, &later));
        assert_eq!((next(), next(), trash.len()), (Some("/trash/1".into()), None, 1));
        drop(reads);
        assert_eq!(next(), None, "somebody else uses it as yet");
        drop(reads_too);
        assert_eq!((next(), trash.len()), (Some("/trash/0".into()), 0));
        assert!(Rc::ptr_eq(&later, &trash.user(one)), "and the new one is known");
        drop(later);
        assert!(trash.users.by_path.borrow().is_empty(), "nothing is kept of those that have gone");
    });
}

#[test]
fn what_is_there_at_a_start_goes_and_its_names_are_not_given_again() {
    on_sim(|rt| async move {
        for name in ["0", "7", "notes"] {
            make(&rt, &Path::new("/trash").join(name), 4096).await;
        }
        make(&rt, Path::new("/files/one"), 4096).await;
        let trash = Trash::open(&rt, "/trash".into(), 4096).await.expect("open");
        assert_eq!(trash.len(), 2, "what is not ours stays");
        let taken = trash.take(Path::new("/files/one")).await.expect("take");
        assert_eq!(trash.len(), 2, "it might come back");
        trash.forget(taken);
        assert_eq!(trash.len(), 3);
        assert_eq!(rt.list(Path::new("/trash")).await.expect("list"), ["0", "7", "8", "notes"]);
        assert!(trash.take(Path::new("/files/missing")).await.is_err());
    });
}
