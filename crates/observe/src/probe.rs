//! What this kernel and these privileges allow, found out by doing it in a disposable namespace.
