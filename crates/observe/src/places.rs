//! The network namespaces of this machine, each once, with a name and a way in.
