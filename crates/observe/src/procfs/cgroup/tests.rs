//! Control group layouts as machines show them.

use proptest::prelude::*;

use super::*;

const ID: &str = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";
const POD: &str = "2d7fb1d8-8a54-4b0e-a2d5-4f0f3c8f3a11";

fn told(text: &str) -> (Option<String>, Option<String>, Option<String>) {
    let text = text.replace("ID", ID).replace("P_D", &POD.replace('-', "_")).replace("P-D", POD);
    let Membership { unit, container, pod } = Membership::parse(&text);
    (unit, container, pod)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_container_is_known_under_every_runtime_and_driver() {
    for text in [
        "0::/system.slice/docker-ID.scope\n",
        "0::/docker/ID\n",
        "0::/docker/ID/init.scope\n",
        "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n",
        "0::/machine.slice/libpod-ID.scope\n",
        "0::/ecs/0123456789abcdef0123456789abcdef/ID\n",
        "0::/system.slice/nerdctl-ID.scope\n",
        "12:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n",
        "5:memory:/docker/ID\n1:name=systemd:/\n0::/\n",
    ] {
        assert_eq!(told(text).1, some("4fa6e0f0c678"), "{text}");
        assert_eq!(told(text).2, None, "{text}");
    }
}

#[test]
fn a_pod_is_known_by_its_uid_and_the_container_in_it_by_its_id() {
    for text in [
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podP_D.slice/cri-containerd-ID.scope\n",
        "0::/kubepods.slice/kubepods-podP_D.slice/crio-ID.scope\n",
        "0::/kubepods/besteffort/podP-D/ID\n",
        "11:cpu:/kubepods/podP-D/ID\n1:name=systemd:/kubepods/podP-D/ID\n",
        "1:name=systemd:/system.slice/containerd.service/kubepods-burstable-podP_D.slice:cri-containerd:ID\n",
    ] {
        assert_eq!(told(text), (None, some("4fa6e0f0c678"), some(POD)), "{text}");
    }
    let fixed = "0::/kubepods/burstable/pod0123456789abcdef0123456789abcdef/ID";
    assert_eq!(told(fixed).2, some("0123456789abcdef0123456789abcdef"));
}

#[test]
fn containers_with_names_go_by_them() {
    for (text, name) in [
        ("0::/lxc.payload.web1\n", "web1"),
        ("0::/lxc.payload.web1/system.slice/nginx.service\n", "web1"),
        ("4:memory:/lxc/web1\n", "web1"),
        ("0::/machine.slice/machine-debian\\x2d12.scope\n", "debian-12"),
        ("0::/machine.slice/systemd-nspawn@box.service/payload\n", "box"),
        (
            "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-265927825\n",
            "0123456789abcdef0123456789abcdef-265927825",
        ),
    ] {
        assert_eq!(told(text).1, some(name), "{text}");
    }
    assert_eq!(told("0::/lxc.payload.web1/system.slice/nginx.service").0, some("nginx.service"));
}

#[test]
fn units_are_the_nearest_and_never_the_containers_own_scope() {
    for (text, unit) in [
        ("0::/system.slice/nginx.service\n", some("nginx.service")),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", some("getty@tty1.service")),
        ("0::/user.slice/user-0.slice/session-3.scope\n", some("session-3.scope")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/sync.service\n", some("sync.service")),
        ("9:name=systemd:/system.slice/cron.service\n8:pids:/\n0::/\n", some("cron.service")),
        ("0::/system.slice/docker-ID.scope\n", None),
        ("0::/system.slice/docker-ID.scope/system.slice/nginx.service\n", some("nginx.service")),
        ("0::/machine.slice/libpod-conmon-ID.scope\n", some(&format!("libpod-conmon-{ID}.scope"))),
        ("0::/system.slice/old.service (deleted)\n", some("old.service")),
        ("0::/system.slice/my\\x2dapp.service\n", some("my-app.service")),
        ("0::/../../system.slice/ssh.service\n", some("ssh.service")),
        ("0::/\n", None),
        ("", None),
    ] {
        assert_eq!(told(text).0, unit, "{text}");
    }
    assert_eq!(told("0::/machine.slice/libpod-conmon-ID.scope").1, None);
}

#[test]
fn a_place_is_named_after_pod_then_container_then_unit_but_not_after_a_session() {
    let of = |unit: Option<&str>, container: Option<&str>, pod: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Membership { unit: own(unit), container: own(container), pod: own(pod) }.name()
    };
    assert_eq!(of(Some("a.service"), Some("c"), Some("p")), some("pod-p"));
    assert_eq!(of(Some("a.service"), Some("c"), None), some("c"));
    assert_eq!(of(Some("a.service"), None, None), some("a.service"));
    for session in ["session-3.scope", "user@1000.service", "init.scope"] {
        assert_eq!(of(Some(session), None, None), None);
    }
}

proptest! {
    #[test]
    fn garbage_is_no_trouble(text in "\\PC{0,300}") {
        Membership::parse(&text);
    }

    #[test]
    fn near_garbage_is_no_trouble_and_prints_safely(
        text in "([0-9]{0,2}:(name=systemd|memory)?:(/(pod|kubepods-pod|docker-|lxc|ecs|machine-|\\\\x1b|\\\\x|[0-9a-f]{64}|\\.scope|\\.service|:){0,4}){0,5}\n){0,4}",
    ) {
        let Membership { unit, container, pod } = Membership::parse(&text);
        for name in [unit, container, pod].into_iter().flatten() {
            prop_assert!(!name.contains(char::is_control), "{name:?}");
        }
    }
}
