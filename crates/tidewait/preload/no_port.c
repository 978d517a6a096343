/* bind(address, port 0) before connect(), with the port left to connect(): for programs that do not say so themselves.
 *
 * A program that binds a source address and no port gets a port at once, one that no other connection of this address holds,
 * wherever that goes to. With IP_BIND_ADDRESS_NO_PORT (Linux 4.2) the port is chosen by connect(), which only has to find
 * one that is free for this destination (net/ipv4/af_inet.c __inet_bind).
 *
 * The one thing that a program could notice is that getsockname() between bind() and connect() or listen() tells port 0. So
 * whoever asks then gets the port chosen then: the bind() is made once more without the option. listen() chooses one by itself.
 *
 * It is loaded before any program with any C library, so it needs none: system calls are made by itself, and of the
 * C library only the place of errno is asked, which glibc and musl call alike. */

#include <asm/unistd.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/socket.h>

#define EXPORT __attribute__((visibility("default")))

/* asm/socket.h and linux/net.h have these; they are the same on the machines below. */
#define SOL_SOCKET 1
#define SO_TYPE 3
#define SO_PROTOCOL 38
#define SOCK_STREAM 1
#define AF_INET 2
#define AF_INET6 10

extern int *__errno_location(void);

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
#else
#error "how a system call is made is known for x86_64 and aarch64 alone"
#endif

static int answer(long result)
{
	if (result >= 0)
		return (int)result;
	*__errno_location() = (int)-result;
	return -1;
}

static int has(int fd, int level, int option, int wanted)
{
	int value = 0;
	unsigned int length = sizeof(value);
	return call(__NR_getsockopt, fd, level, option, (long)&value, (long)&length) == 0 && value == wanted;
}

static long set_no_port(int fd, int on)
{
	return call(__NR_setsockopt, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, (long)&on, sizeof(on));
}

/* Whether `address`, of the Internet, leaves the port open. The family and the port are at the same place in both kinds. */
static int no_port_named(const void *address, unsigned int length)
{
	const struct sockaddr_in *in = address;
	if (!address || length < sizeof(struct sockaddr_in))
		return 0;
	return (in->sin_family == AF_INET || in->sin_family == AF_INET6) && in->sin_port == 0;
}

static int is_tcp(int fd)
{
	return has(fd, SOL_SOCKET, SO_TYPE, SOCK_STREAM) && has(fd, SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP);
}

EXPORT int bind(int fd, const void *address, unsigned int length)
{
	if (no_port_named(address, length) && is_tcp(fd))
		/* A kernel that does not know it binds as ever. */
		set_no_port(fd, 1);
	return answer(call(__NR_bind, fd, (long)address, length, 0, 0));
}

EXPORT int getsockname(int fd, void *address, unsigned int *length)
{
	struct sockaddr_in6 bound;
	unsigned int room = sizeof(bound);
	if (is_tcp(fd) && has(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) &&
	    call(__NR_getsockname, fd, (long)&bound, (long)&room, 0, 0) == 0 && no_port_named(&bound, room)) {
		/* Where this finds no port the answer is port 0, and connect() will choose one. */
		set_no_port(fd, 0);
		if (call(__NR_bind, fd, (long)&bound, room, 0, 0) != 0)
			set_no_port(fd, 1);
	}
	return answer(call(__NR_getsockname, fd, (long)address, (long)length, 0, 0));
}
