//! Trees of files, and who wins in them by the orders of all the readers.

use super::super::tests::Tree;
use super::*;

const FIN: &str = "net.ipv4.tcp_fin_timeout";
const RANGE: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";
const SYSTEMD: [(&str, &str); 2] = [("usr/lib/systemd/systemd-sysctl", "x"), ("run/systemd/system/x", "")];
/// As much of the services' scripts as they are known by.
const ALPINE: (&str, &str) =
    ("etc/init.d/sysctl", "for f in /lib/sysctl.d/*.conf \\\n /usr/lib/sysctl.d/*.conf; do\n");
const OPENRC: (&str, &str) = ("etc/init.d/sysctl", "BSD_sysctl()\n{\n");

fn outlook_of(tree: &Tree, kept: &[(&str, &str)]) -> Outlook {
    let kept: Vec<(String, String)> =
        kept.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    outlook(&tree.path(""), &kept)
}

fn by(tree: &Tree, reader: Reader) -> Vec<String> {
    let (boot, limits) = at_boot_by(&tree.path(""), reader);
    assert_eq!(limits, []);
    let boot = of_setting(&boot, FIN);
    boot.assignments.iter().map(|row| format!("{}:{} {}", row.at.file, row.at.line, row.at.value)).collect()
}

/// A system with systemd and these files.
fn systemd(files: &[(&str, &str)]) -> Tree {
    Tree::new(&[SYSTEMD.as_slice(), files].concat())
}

#[test]
fn each_reader_has_its_order() {
    let tree = Tree::new(&[
        ("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout = 1\n"),
        ("etc/sysctl.d/50-a.conf", "net.ipv4.tcp_fin_timeout = 2\n"),
        ("run/sysctl.d/50-a.conf", "net.ipv4.tcp_fin_timeout = 3\n"),
        ("usr/lib/sysctl.d/90-b.conf", "net.ipv4.tcp_fin_timeout = 4\n"),
        ("usr/local/lib/sysctl.d/95-c.conf", "net.ipv4.tcp_fin_timeout = 5\n"),
        ("etc/sysctl.d/.99-d.conf", "net.ipv4.tcp_fin_timeout = 6\n"),
    ]);
    let (conf, etc, run) =
        ("/etc/sysctl.conf:1 1", "/etc/sysctl.d/50-a.conf:1 2", "/run/sysctl.d/50-a.conf:1 3");
    let (usr, local, dot) = (
        "/usr/lib/sysctl.d/90-b.conf:1 4",
        "/usr/local/lib/sysctl.d/95-c.conf:1 5",
        "/etc/sysctl.d/.99-d.conf:1 6",
    );
    assert_eq!(by(&tree, Reader::SystemdSysctl), [etc, usr, local]);
    assert_eq!(by(&tree, Reader::Procps), [dot, etc, usr, local, conf]);
    assert_eq!(by(&tree, Reader::Procps3), [dot, etc, usr, local, conf]);
    assert_eq!(by(&tree, Reader::Procps3Old), [dot, run, usr, local, conf]);
    assert_eq!(by(&tree, Reader::OpenrcAlpine), [usr, conf, run]);
    assert_eq!(by(&tree, Reader::OpenrcBusybox), [conf, etc]);
}

#[test]
fn the_reader_is_found_by_what_is_installed() {
    let reader = |files: &[(&str, &str)]| {
        let boots = at_boot(&Tree::new(files).path("")).0;
        boots.iter().map(|boot| (boot.reader, boot.known_by.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(reader(&[]), [(Reader::SystemdSysctl, false), (Reader::Procps, false)]);
    assert_eq!(reader(&SYSTEMD), [(Reader::SystemdSysctl, true)]);
    assert_eq!(reader(&[ALPINE]), [(Reader::OpenrcAlpine, true)]);
    assert_eq!(reader(&[OPENRC]), [(Reader::Procps, true)]);
    assert_eq!(reader(&[OPENRC, ("bin/busybox", "x")]), [(Reader::OpenrcBusybox, true)]);
    assert_eq!(reader(&[OPENRC, ("bin/busybox", "x"), ("sbin/sysctl", "x")]), [(Reader::Procps, true)]);
    let sysv = ("etc/init.d/procps", "x");
    assert_eq!(reader(&[sysv, ("usr/lib/x86_64-linux-gnu/libprocps.so.8", "x")]), [(Reader::Procps3, true)]);
    assert_eq!(reader(&[sysv, ("lib/libprocps.so.6", "x")]), [(Reader::Procps3Old, true)]);
    assert_eq!(reader(&[sysv, ("usr/lib/libproc2.so.0", "x")]), [(Reader::Procps, true)]);

    let image = Tree::new(&[SYSTEMD[0]]);
    image.link("sbin/init", "/lib/systemd/systemd");
    let boots = at_boot(&image.path("")).0;
    assert!(boots[0].known_by.as_deref().unwrap().contains("/sbin/init is systemd"), "{boots:?}");
}

#[test]
fn a_later_file_wins_and_what_mends_it_depends_on_where_it_is() {
    let mended = |file: &str| {
        let tree = systemd(&[(file, "# x\nnet.ipv4.tcp_fin_timeout = 60\n")]);
        let outlook = outlook_of(&tree, &[(FIN, "30")]);
        let [conflict] = outlook.conflicts.as_slice() else { panic!("{outlook:?}") };
        let expected = format!("{FIN} will be 60 after boot: /{file}:2 sets it later (systemd-sysctl)");
        assert_eq!((conflict.summary.as_str(), outlook.notes.len()), (expected.as_str(), 0));
        conflict.mend.clone()
    };
    let mend = mended("etc/sysctl.d/99-foo.conf");
    assert_eq!(
        mend,
        "delete line 2 of /etc/sysctl.d/99-foo.conf, or give it a name that sorts before 80-tidewait.conf"
    );
    assert!(
        mended("usr/lib/sysctl.d/99-foo.conf")
            .ends_with("without line 2 into /etc/sysctl.d/99-foo.conf, which hides it")
    );
    assert!(mended("run/sysctl.d/99-foo.conf").contains("find the program that writes"));
    // As Debian has it.
    let tree = systemd(&[("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout = 60\n")]);
    tree.link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
    let conflicts = outlook_of(&tree, &[(FIN, "30")]).conflicts;
    assert_eq!(
        conflicts[0].mend,
        "delete line 1 of /etc/sysctl.conf, which /etc/sysctl.d/99-sysctl.conf is a link to"
    );
}

#[test]
fn what_says_the_same_or_loses_is_a_note() {
    let tree = systemd(&[
        ("etc/sysctl.d/10-a.conf", "net.ipv4.tcp_fin_timeout = 60\n"),
        (
            "etc/sysctl.d/99-b.conf",
            "net.ipv4.tcp_fin_timeout=30\nnet.ipv4.ip_local_port_range = 10240\t65535\n",
        ),
        ("etc/sysctl.d/99-c.conf", "net.ipv4.ip_local_reserved_ports = 9000,8000-8002\nnet.ipv4.tcp_* = 7\n"),
    ]);
    let kept = [(FIN, "30"), (RANGE, "10240 65535"), (RESERVED, "8000,8001-8002,9000")];
    let outlook = outlook_of(&tree, &kept);
    assert_eq!(outlook.conflicts, []);
    let notes = [
        format!("{FIN} is set to 60 by /etc/sysctl.d/10-a.conf:1, which {FILE} overrides"),
        format!("{FIN} is set to the same by /etc/sysctl.d/99-b.conf:1"),
        format!("{RANGE} is set to the same by /etc/sysctl.d/99-b.conf:2"),
        format!("{RESERVED} is set to the same by /etc/sysctl.d/99-c.conf:1"),
    ];
    assert_eq!(outlook.notes, notes);
}

#[test]
fn a_file_that_is_there_already_is_taken_as_it_will_be() {
    let tree = systemd(&[("etc/sysctl.d/80-tidewait.conf", "net.ipv4.tcp_fin_timeout = 60\n")]);
    assert_eq!(outlook_of(&tree, &[(FIN, "30")]), Outlook::default());
    let nothing_yet = Tree::new(&SYSTEMD);
    assert_eq!(outlook_of(&nothing_yet, &[(FIN, "30"), (RESERVED, "")]), Outlook::default());
}

#[test]
fn the_old_file_wins_where_procps_reads_it_and_the_reader_is_said() {
    let tree = Tree::new(&[("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout = 60\n")]);
    let outlook = outlook_of(&tree, &[(FIN, "30")]);
    let [conflict] = outlook.conflicts.as_slice() else { panic!("{outlook:?}") };
    assert_eq!(
        (conflict.reader, conflict.mend.as_str()),
        (Reader::Procps, "delete line 1 of /etc/sysctl.conf")
    );
}

#[test]
fn readers_that_do_not_take_the_line_as_it_is_meant_are_told_of() {
    let one = |files: &[(&str, &str)], kept: (&str, &str)| {
        let outlook = outlook_of(&Tree::new(files), &[kept]);
        let [conflict] = outlook.conflicts.as_slice() else { panic!("{outlook:?}") };
        format!("{} | {}", conflict.summary, conflict.mend)
    };
    let told = one(&[ALPINE], (RESERVED, ""));
    assert!(told.contains("passes over a line with an empty value") && told.contains("sysctl -w"), "{told}");
    let told = one(&[ALPINE, ("run/sysctl.d/80-tidewait.conf", "")], (FIN, "30"));
    assert!(told.contains("hides") && told.ends_with("remove /run/sysctl.d/80-tidewait.conf"), "{told}");
    let back =
        [SYSTEMD.as_slice(), &[("etc/sysctl.d/90-x.conf", "# x\n-net.ipv4.tcp_fin_timeout\n")]].concat();
    let told = one(&back, (FIN, "30"));
    let expected = "net.ipv4.tcp_fin_timeout = 30 will not be set at boot: /etc/sysctl.d/90-x.conf:2 takes it back with \
                    -net.ipv4.tcp_fin_timeout | delete line 2 of /etc/sysctl.d/90-x.conf";
    assert_eq!(told, expected);
    let busybox = [OPENRC, ("bin/busybox", "x")];
    let told = one(&busybox, (FIN, "30"));
    assert!(told.ends_with("create an empty file /etc/sysctl.conf"), "{told}");
    let with_conf = [busybox.as_slice(), &[("etc/sysctl.conf", "")]].concat();
    let told = one(&with_conf, (RANGE, "10240 65535"));
    assert!(told.contains("will be 10240 after boot and not 10240 65535"), "{told}");
    assert_eq!(outlook_of(&Tree::new(&with_conf), &[(FIN, "30")]).conflicts, []);
}

#[test]
fn ufw_may_come_later() {
    let ufw = |enabled: &str, default: &str| {
        let tree = systemd(&[
            ("etc/ufw/ufw.conf", &format!("# x\nENABLED={enabled}\nLOGLEVEL=low\n")),
            ("etc/default/ufw", default),
            ("etc/ufw/sysctl.conf", "net/ipv4/tcp_fin_timeout=60\n"),
        ]);
        outlook_of(&tree, &[(FIN, "30")]).conflicts
    };
    let conflicts = ufw("yes", "IPT_SYSCTL=/etc/ufw/sysctl.conf\n");
    let [conflict] = conflicts.as_slice() else { panic!("{conflicts:?}") };
    assert!(conflict.summary.contains("may be 60 after boot: ufw sets it from /etc/ufw/sysctl.conf:1"));
    assert!(conflict.mend.contains("IPT_SYSCTL="));
    assert_eq!(ufw("no", "IPT_SYSCTL=/etc/ufw/sysctl.conf\n"), []);
    assert_eq!(ufw("yes", "IPT_SYSCTL=\"\"\n"), []);
    assert_eq!(ufw("yes", "#IPT_SYSCTL=/etc/ufw/sysctl.conf\nIPT_SYSCTL='/etc/ufw/sysctl.conf'\n").len(), 1);
}

#[test]
fn tuned_wins_only_where_it_does_not_apply_the_files_again() {
    let tuned = |main: &str, more: &[(&str, &str)]| {
        let files = [
            ("etc/tuned/active_profile", "oracle\n"),
            ("etc/tuned/tuned-main.conf", main),
            (
                "usr/lib/tuned/oracle/tuned.conf",
                "[main]\nsummary=x\ninclude=throughput-performance\n[sysctl]\nnet.ipv4.ip_local_port_range = 9000 65499\n",
            ),
            (
                "usr/lib/tuned/throughput-performance/tuned.conf",
                "[sysctl]\nnet.core.somaxconn=>2048 # more\nnet.ipv4.tcp_fin_timeout=\"20\"\n[x]\ntype=sysctl\n\
                 net.ipv4.tcp_keepalive_time=${t}\n",
            ),
        ];
        let tree = systemd(&[files.as_slice(), more].concat());
        tree.link(
            "etc/systemd/system/multi-user.target.wants/tuned.service",
            "/usr/lib/systemd/system/tuned.service",
        );
        let kept = [(RANGE, "10240 65535"), ("net.core.somaxconn", "4096"), (FIN, "30")];
        outlook_of(&tree, &kept)
    };
    let outlook = tuned("reapply_sysctl = 1\n", &[]);
    assert_eq!(outlook.conflicts, []);
    let what: Vec<&str> = outlook.limits.iter().map(|limit| limit.what.as_str()).collect();
    let dynamic =
        "what line 6 of /usr/lib/tuned/throughput-performance/tuned.conf sets net.ipv4.tcp_keepalive_time to";
    assert_eq!(what, [dynamic]);
    let outlook = tuned("daemon = 1\nreapply_sysctl = 0\n", &[]);
    let told: Vec<(&str, &str)> = outlook
        .conflicts
        .iter()
        .map(|conflict| (conflict.setting.as_str(), conflict.winner.as_ref().unwrap().at.value.as_str()))
        .collect();
    assert_eq!(told, [(RANGE, "9000 65499"), (FIN, "20")], "somaxconn is higher already");
    assert!(outlook.conflicts[0].mend.contains("reapply_sysctl = 1"));
    // tuned reads /etc/sysctl.conf, which systemd does not.
    let outlook = tuned("", &[("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout = 60\n")]);
    assert!(outlook.conflicts[0].summary.contains("tuned applies /etc/sysctl.conf:1 after"), "{outlook:?}");
}

#[test]
fn the_kernel_is_told_before_any_file() {
    let line = "root=/dev/vda quiet sysctl.net.ipv4.ip_local_port_range=\"1024 65535\" sysctl.net/ipv4/tcp_fin_timeout=9\n";
    let tree = systemd(&[("proc/cmdline", line)]);
    let outlook = outlook_of(&tree, &[(FIN, "30"), (RANGE, "1024 65535")]);
    assert_eq!(outlook.conflicts, []);
    assert_eq!(outlook.notes[0], format!("{FIN} is set to 9 by /proc/cmdline, which {FILE} overrides"));
    assert_eq!(outlook.notes[1], format!("{RANGE} is set to the same by /proc/cmdline"));
}

#[test]
fn links_of_an_image_mean_its_own_files() {
    let outside = Tree::new(&[("99-x.conf", "net.ipv4.tcp_fin_timeout = 1\n")]);
    let tree = systemd(&[("etc/sysctl.conf", "net.ipv4.tcp_fin_timeout = 60\n")]);
    tree.link("etc/sysctl.d/99-sysctl.conf", "/etc/sysctl.conf");
    tree.link("etc/sysctl.d/99-x.conf", outside.path("99-x.conf").to_str().unwrap());
    tree.link("etc/sysctl.d/99-y.conf", "../../../../../../../../../../etc/sysctl.conf");
    let files = ["/etc/sysctl.d/99-sysctl.conf:1 60", "/etc/sysctl.d/99-y.conf:1 60"];
    assert_eq!(by(&tree, Reader::SystemdSysctl), files);
}

#[test]
fn modules_are_told_of_unless_they_are_loaded_early() {
    let kept = [
        ("net.netfilter.nf_conntrack_max", "262144"),
        ("net.netfilter.nf_conntrack_buckets", "65536"),
        (FIN, "30"),
    ];
    let outlook = outlook_of(&Tree::new(&SYSTEMD), &kept);
    let [hint] = outlook.modules.as_slice() else { panic!("{outlook:?}") };
    assert_eq!(
        (hint.module.as_str(), hint.line.as_str(), hint.settings.len()),
        ("nf_conntrack", "nf_conntrack", 2)
    );
    assert!(hint.mend.contains("--prefix=/net/netfilter"));
    for early in [
        ("etc/modules-load.d/x.conf", "# x\nnf_conntrack\n"),
        ("etc/modules", "nf_conntrack hashsize=65536\n"),
        ("lib/modules/6.12/modules.builtin", "kernel/net/netfilter/nf_conntrack.ko\n"),
        ("sys/module/nf_conntrack/parameters/hashsize", "1"),
    ] {
        assert_eq!(outlook_of(&systemd(&[early]), &kept).modules, [], "{early:?}");
    }
}
