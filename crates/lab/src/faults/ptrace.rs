//! ptrace(2), as far as it is needed to stop a program at its system calls and to make one of them fail.
#![expect(unsafe_code, reason = "ptrace, and waiting for what one thread traces, have no safe wrapper")]

use std::io;
use std::mem::size_of;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_long, pid_t};

// include/uapi/linux/ptrace.h: the C libraries do not agree on the type of these, and not all have the last.
const TRACEME: c_long = 0;
const DETACH: c_long = 17;
const SYSCALL: c_long = 24;
const SET_OPTIONS: c_long = 0x4200;
const GET_SIGNAL: c_long = 0x4202;
const GET_SYSCALL_INFO: c_long = 0x420e;

/// Where a thread stands when it has stopped at a system call.
#[derive(Debug)]
pub(super) enum At {
    /// The call is about to be made.
    Entry(Entry),
    /// It has been made, or left out.
    Exit,
    /// At none.
    Elsewhere,
}

/// A system call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// AUDIT_ARCH_*: by which table the number is meant.
    pub(super) architecture: u32,
    pub(super) number: c_long,
    pub(super) arguments: [u64; 6],
}

/// `struct ptrace_syscall_info`; its union as it is at the entry, with the room of its largest member.
#[repr(C)]
#[derive(Default)]
struct SyscallInfo {
    op: u8,
    pad: [u8; 3],
    architecture: u32,
    instruction: u64,
    stack: u64,
    number: u64,
    arguments: [u64; 6],
    rest: u64,
}

/// Makes the next process that is started from the command a tracee of the thread that starts it, once `spent` is
/// set no more.
///
/// It stops with SIGTRAP in the new program, before the first instruction.
pub(super) fn trace_next(command: &mut Command, spent: Arc<AtomicBool>) {
    let hook = move || {
        // A command keeps its hooks: this one is for one start.
        if spent.load(Ordering::Relaxed) {
            return Ok(());
        }
        call(TRACEME, 0, 0, 0).map(drop)
    };
    // SAFETY: one load and one system call: no allocation and no lock between fork and exec.
    unsafe { command.pre_exec(hook) };
}

/// What is traced beside the thread itself: the threads it starts, the new program after an exec, and with
/// `children` the processes it starts. All of it ends when the tracing thread does.
pub(super) fn set_options(thread: pid_t, children: bool) -> io::Result<()> {
    let mut options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_TRACECLONE;
    if children {
        options |= libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK;
    }
    call(SET_OPTIONS, thread, 0, options as usize).map(drop)
}

/// Lets a stopped thread run to its next entry or exit, with a signal or 0.
pub(super) fn resume(thread: pid_t, signal: c_int) -> io::Result<()> {
    call(SYSCALL, thread, 0, signal as usize).map(drop)
}

/// Lets a stopped thread go for good.
pub(super) fn detach(thread: pid_t) -> io::Result<()> {
    call(DETACH, thread, 0, 0).map(drop)
}

/// Whether a stop with a signal is one because of the signal's effect: the signal itself was delivered before.
pub(super) fn is_group_stop(thread: pid_t) -> bool {
    let mut signal = [0u64; 16];
    // struct siginfo has 128 bytes (SI_MAX_SIZE).
    let asked = call(GET_SIGNAL, thread, 0, signal.as_mut_ptr() as usize);
    asked.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Where a stopped thread stands.
pub(super) fn at(thread: pid_t) -> io::Result<At> {
    let mut info = SyscallInfo::default();
    let room = size_of::<SyscallInfo>();
    call(GET_SYSCALL_INFO, thread, room, (&raw mut info) as usize)?;
    Ok(match info.op {
        1 => At::Entry(Entry {
            architecture: info.architecture,
            number: info.number as c_long,
            arguments: info.arguments,
        }),
        2 => At::Exit,
        _ => At::Elsewhere,
    })
}

/// The next of what the calling thread traces or has started that stopped or ended, and how; `None` when nothing of
/// that is left. Children of other threads are not touched.
pub(super) fn wait() -> io::Result<Option<(pid_t, c_int)>> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if thread > 0 {
            return Ok(Some((thread, status)));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// The architecture in whose numbers this program knows the calls, AUDIT_ARCH_* of include/uapi/linux/audit.h.
pub(super) const ARCHITECTURE: Option<u32> = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64"))
{
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// At the entry: the call is not to be made.
#[cfg(target_arch = "x86_64")]
pub(super) fn leave_out(thread: pid_t) -> io::Result<()> {
    poke_user(thread, std::mem::offset_of!(libc::user_regs_struct, orig_rax), -1)
}

/// At the exit: what the program is to see as the call's result.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_result(thread: pid_t, result: i64) -> io::Result<()> {
    poke_user(thread, std::mem::offset_of!(libc::user_regs_struct, rax), result)
}

#[cfg(target_arch = "x86_64")]
fn poke_user(thread: pid_t, offset: usize, value: i64) -> io::Result<()> {
    const POKE_USER: c_long = 6;
    call(POKE_USER, thread, offset, value as usize).map(drop)
}

/// At the entry: the call is not to be made.
#[cfg(target_arch = "aarch64")]
pub(super) fn leave_out(thread: pid_t) -> io::Result<()> {
    const SYSTEM_CALL: usize = 0x404;
    let mut number: c_int = -1;
    registers(registers::SET, thread, SYSTEM_CALL, &raw mut number).map(drop)
}

/// At the exit: what the program is to see as the call's result.
#[cfg(target_arch = "aarch64")]
pub(super) fn set_result(thread: pid_t, result: i64) -> io::Result<()> {
    const GENERAL: usize = 1;
    // struct user_pt_regs: x0 to x30, sp, pc, pstate.
    let mut general = [0u64; 34];
    registers(registers::GET, thread, GENERAL, &raw mut general)?;
    general[0] = result as u64;
    registers(registers::SET, thread, GENERAL, &raw mut general).map(drop)
}

#[cfg(target_arch = "aarch64")]
mod registers {
    pub(super) const GET: libc::c_long = 0x4204;
    pub(super) const SET: libc::c_long = 0x4205;
}

#[cfg(target_arch = "aarch64")]
fn registers<T>(request: c_long, thread: pid_t, set: usize, values: *mut T) -> io::Result<c_long> {
    let mut vector = libc::iovec { iov_base: values.cast(), iov_len: size_of::<T>() };
    call(request, thread, set, (&raw mut vector) as usize)
}

/// At the entry: the call is not to be made.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn leave_out(_: pid_t) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// At the exit: what the program is to see as the call's result.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn set_result(_: pid_t, _: i64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The bare call: the C libraries declare it with different types, and return what PEEK read in place of writing it.
fn call(request: c_long, thread: pid_t, address: usize, data: usize) -> io::Result<c_long> {
    // SAFETY: the requests made here read and write the memory of this process only where a pointer is given, and
    // each of those points to a value that is large enough and lives across the call.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, thread, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
