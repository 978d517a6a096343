//! All of several settings, or none, whatever the kernel answers.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What stands in for the kernel: it fails at one of its calls, and perhaps ever after.
#[derive(Default)]
struct Fake {
    values: RefCell<BTreeMap<String, String>>,
    calls: Cell<usize>,
    fails_at: Option<usize>,
    for_good: bool,
    /// Takes what is written and keeps another value.
    clips: bool,
}

impl Fake {
    fn new(fails_at: Option<usize>, for_good: bool) -> Fake {
        let values = steps().into_iter().map(|step| (step.setting, step.from)).collect();
        Fake { values: RefCell::new(values), fails_at, for_good, ..Fake::default() }
    }

    fn call(&self) -> io::Result<()> {
        let call = self.calls.replace(self.calls.get() + 1);
        let fails = self.fails_at.is_some_and(|at| call == at || self.for_good && call > at);
        if fails { Err(io::Error::from_raw_os_error(22)) } else { Ok(()) }
    }

    fn is(&self, end: fn(&Step) -> &String) -> bool {
        steps().iter().all(|step| self.values.borrow()[&step.setting] == *end(step))
    }
}

impl Kernel for Fake {
    fn read(&self, setting: &str) -> io::Result<String> {
        self.call()?;
        Ok(self.values.borrow()[setting].clone())
    }

    fn write(&self, setting: &str, value: &str) -> io::Result<()> {
        self.call()?;
        let value = if self.clips && value == "3" { "2" } else { value };
        self.values.borrow_mut().insert(setting.to_owned(), value.to_owned());
        Ok(())
    }

    fn may_write(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

fn steps() -> Vec<Step> {
    let step = |setting: &str, from: &str, to: &str| Step {
        setting: setting.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    vec![step("a", "32768\t60999", "10240 65535"), step("b", "2", "1"), step("c", "6", "3")]
}

fn from(step: &Step) -> &String {
    &step.from
}

fn to(step: &Step) -> &String {
    &step.to
}

#[test]
fn all_are_set() {
    let kernel = Fake::new(None, false);
    carry_out(&kernel, &steps(), &|| false).unwrap();
    assert!(kernel.is(to));
}

#[test]
fn a_value_that_moved_or_was_clipped_takes_the_others_back() {
    let kernel = Fake::new(None, false);
    kernel.values.borrow_mut().insert("c".to_owned(), "5".to_owned());
    let failed = carry_out(&kernel, &steps(), &|| false).unwrap_err();
    assert!(matches!(failed.cause, Cause::Moved { .. }) && failed.stuck.is_empty());
    assert_eq!(kernel.values.borrow()["a"], "32768\t60999");
    assert_eq!(kernel.values.borrow()["c"], "5");

    let kernel = Fake { clips: true, ..Fake::new(None, false) };
    let failed = carry_out(&kernel, &steps(), &|| false).unwrap_err();
    assert!(matches!(failed.cause, Cause::NotTaken { .. }) && failed.stuck.is_empty(), "{failed}");
    assert!(kernel.is(from));
}

#[test]
fn an_interrupt_takes_all_back() {
    let asked = Cell::new(0);
    let kernel = Fake::new(None, false);
    let failed = carry_out(&kernel, &steps(), &|| asked.replace(asked.get() + 1) == 2).unwrap_err();
    assert!(matches!(failed.cause, Cause::Interrupted) && failed.stuck.is_empty());
    assert!(kernel.is(from));
}

proptest! {
    #[test]
    fn one_call_that_fails_leaves_all_as_before_or_as_wanted(at in 0_usize..16) {
        let kernel = Fake::new(Some(at), false);
        match carry_out(&kernel, &steps(), &|| false) {
            Ok(()) => prop_assert!(kernel.is(to)),
            Err(failed) => prop_assert!(kernel.is(from) && failed.stuck.is_empty(), "{failed}"),
        }
    }

    #[test]
    fn what_cannot_be_brought_back_is_named(at in 0_usize..9) {
        let kernel = Fake::new(Some(at), true);
        let failed = carry_out(&kernel, &steps(), &|| false).unwrap_err();
        prop_assert!(kernel.is(from) || !failed.stuck.is_empty(), "{failed}");
    }
}
