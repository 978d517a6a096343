//! The same probes where no BPF loader was built in: each says so.

use crate::probe::{Answer, Bench, Failure};

macro_rules! without {
    ($($name:ident),+) => {
        $(pub(in crate::probe) fn $name(_: &Bench) -> Answer {
            Err(Failure::Unknown("not tried: built without BPF".to_owned()))
        })+
    };
}

without!(
    tp_btf,
    sk_storage,
    bind_failures,
    ring_buffer,
    lru_hash,
    iter_tcp,
    connect4,
    connect6,
    sock_ops,
    tc,
    fentry
);
