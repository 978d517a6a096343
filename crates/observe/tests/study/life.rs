//! What is watched and what is not, from the begin to the end.

use tidewait_lab::wire::Direction as Way;

use super::stage::{each_way, v4};

#[test]
fn a_quiet_machine_yields_nothing() {
    each_way("life::a_quiet_machine_yields_nothing", false, |stage| {
        let (near, far, _listener) = stage.connect(v4(443));
        stage.close(near, far);
        stage.watch.refresh();
        let picture = stage.all(0);
        assert_eq!((picture.total.segments, picture.total.sockets), (0, 1), "{picture:#?}");
        assert!(picture.limits.is_empty(), "{picture:#?}");
        assert!(picture.looked_at.is_none_or(|count| count > 0), "{picture:#?}");
    });
}

#[test]
fn a_share_is_watched_with_its_sockets_and_no_other() {
    each_way("life::a_share_is_watched_with_its_sockets_and_no_other", false, |stage| {
        let mut fins = Vec::new();
        for port in 1..=40 {
            let (near, far, _listener) = stage.connect(v4(port));
            fins.push(stage.close(near, far));
        }
        fins.iter().for_each(|fin| stage.wire.inject(Way::Back, fin));
        let all = stage.all(40);
        assert_eq!((all.total.segments, all.total.sockets, all.destinations.len()), (40, 40, 40));
        for row in &all.destinations {
            assert_eq!((row.seen.segments, row.seen.sockets), (1, 1), "{row:#?}");
        }
    });
}
