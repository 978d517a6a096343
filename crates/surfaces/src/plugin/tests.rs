//! What a monitoring system gets, for reports as they occur.
