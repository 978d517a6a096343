//! Facts into findings: port accounting, forecast, verdicts. Takes values, cannot fail, has no clock.
