//! The arithmetic of ports: how many connections a second a number of ports can carry, and the other way round.
