//! Whose sockets: inode to process by one pass over /proc/PID/fd, process to user, unit and container.
