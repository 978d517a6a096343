//! What is watched and what is not, from the begin to the end.

use tidewait_lab::wire::Direction as Way;

use super::stage::{each_way, until, v4};

#[test]
fn a_quiet_machine_yields_nothing() {
    each_way("life::a_quiet_machine_yields_nothing", false, |stage| {
        let (near, far, _listener) = stage.connect(v4(443));
        stage.close(near, far);
        stage.watch.refresh();
        let picture = stage.all(0);
        assert!(picture.total.segments <= stage.late(), "{} by the wire: {picture:#?}", stage.late());
        assert_eq!(picture.total.sockets, 1, "{picture:#?}");
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
        until("each to be seen", || {
            let picture = stage.watch.picture().unwrap();
            picture.destinations.iter().filter(|row| row.seen.segments > 0).count() == 40
        });
        let all = stage.all(40);
        let late = stage.late();
        assert!((40..=40 + late).contains(&all.total.segments), "{late} by the wire: {all:#?}");
        assert_eq!((all.total.sockets, all.destinations.len()), (40, 40));
        for row in &all.destinations {
            assert!((1..=1 + late).contains(&row.seen.segments), "{late} by the wire: {row:#?}");
            assert_eq!(row.seen.sockets, 1, "{row:#?}");
        }
    });
}
