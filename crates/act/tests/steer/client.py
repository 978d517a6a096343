import errno, os, resource, socket, struct, sys, threading, time

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = {}

def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET

def serve(host, port, flags=()):
    s = socket.socket(family(host), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(4096)
    def echo():
        while True:
            c, _ = s.accept()
            kept.setdefault("accepted", []).append(c)
            threading.Thread(target=pump, args=(c,), daemon=True).start()
    def pump(c):
        try:
            while data := c.recv(65536):
                c.sendall(data)
        except OSError:
            pass
        c.close()
    threading.stack_size(131072)
    threading.Thread(target=echo, daemon=True).start()
    return s.getsockname()[1]

def swallow(host, port):
    """Closes what it accepts when the peer has: for many short connections."""
    import selectors
    s = socket.socket(family(host), socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen(4096)
    def loop():
        sel = selectors.DefaultSelector()
        sel.register(s, selectors.EVENT_READ)
        while True:
            for key, _ in sel.select():
                if key.fileobj is s:
                    c, _ = s.accept()
                    sel.register(c, selectors.EVENT_READ)
                else:
                    try:
                        gone = not key.fileobj.recv(65536)
                    except OSError:
                        gone = True
                    if gone:
                        sel.unregister(key.fileobj)
                        key.fileobj.close()
    threading.Thread(target=loop, daemon=True).start()
    return s.getsockname()[1]

def open_one(host, port, before=None):
    s = socket.socket(family(host), socket.SOCK_STREAM)
    if before:
        before(s)
    s.connect((host, port))
    return s

def keep(name, host, port, count, before=None):
    """Opens connections and keeps them; their local ports."""
    new = [open_one(host, port, before) for _ in range(count)]
    kept.setdefault(name, []).extend(new)
    return [s.getsockname()[1] for s in new]

def drop(name):
    for s in kept.pop(name, []):
        s.close()

def churn(host, port, count, before=None):
    """Opens and closes; the local ports."""
    ports = []
    for _ in range(count):
        s = open_one(host, port, before)
        ports.append(s.getsockname()[1])
        s.shutdown(socket.SHUT_WR)
        while s.recv(4096):
            pass
        s.close()
    return ports

def errors(host, port, count):
    """How often connect() fails, by errno; what connects is kept."""
    found = {}
    for _ in range(count):
        s = socket.socket(family(host), socket.SOCK_STREAM)
        try:
            s.connect((host, port))
            kept.setdefault("errors", []).append(s)
        except OSError as e:
            found[e.errno] = found.get(e.errno, 0) + 1
    return sorted(found.items())

def race(host, port, threads, count, close=True):
    """Threads that open at once; [opened, EADDRNOTAVAIL, other errors]."""
    result = [0, 0, 0]
    lock = threading.Lock()
    gate = threading.Barrier(threads)
    def work():
        mine = [0, 0, 0]
        gate.wait()
        for _ in range(count):
            s = socket.socket(family(host), socket.SOCK_STREAM)
            try:
                s.connect((host, port))
                mine[0] += 1
            except OSError as e:
                mine[1 if e.errno == errno.EADDRNOTAVAIL else 2] += 1
            if close:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            else:
                with lock:
                    kept.setdefault("race", []).append(s)
        with lock:
            for i in range(3):
                result[i] += mine[i]
    all = [threading.Thread(target=work) for _ in range(threads)]
    [t.start() for t in all]
    [t.join() for t in all]
    return result

def sources(name):
    return [s.getsockname()[0] for s in kept[name]]

def echoes(name):
    """Whether every byte comes back on each connection."""
    for i, s in enumerate(kept[name]):
        data = os.urandom(512) + str(i).encode()
        s.sendall(data)
        back = b""
        while len(back) < len(data):
            part = s.recv(4096)
            if not part:
                return False
            back += part
        if back != data:
            return False
    return True

for line in sys.stdin:
    try:
        print("ok", eval(line), flush=True)
    except Exception as e:
        print("error", repr(e), flush=True)
