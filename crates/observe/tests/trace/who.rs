//! Who it was: processes, threads, heirs of descriptors, control groups.
