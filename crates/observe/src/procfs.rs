//! Text files of /proc: settings, counters, cgroups, users.
