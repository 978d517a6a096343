//! Every way in which a connection begins, or does not.
