//! Plans: what is worth changing, what is left out, what is in the way.
