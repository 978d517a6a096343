//! Private network namespaces, servers and clients that make TCP trouble on purpose, and clean up.
