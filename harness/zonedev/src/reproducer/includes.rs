//! Which headers a program includes: those of the words that it uses.

use super::pieces::words;

/// By header: words, or with a bracket behind them calls, of which one is enough.
static HEADERS: &[(&str, &[&str])] = &[
    ("arpa/inet.h", &["htonl(", "ntohl("]),
    ("endian.h", &["be64toh("]),
    ("errno.h", &["errno"]),
    (
        "fcntl.h",
        &[
            "open(",
            "fallocate(",
            "fcntl(",
            "vmsplice(",
            "O_RDWR",
            "O_NONBLOCK",
            "FALLOC_FL_KEEP_SIZE",
            "FALLOC_FL_ZERO_RANGE",
            "FALLOC_FL_COLLAPSE_RANGE",
            "FALLOC_FL_INSERT_RANGE",
            "FALLOC_FL_UNSHARE_RANGE",
        ],
    ),
    ("glob.h", &["glob("]),
    ("limits.h", &["PATH_MAX"]),
    ("linux/aio_abi.h", &["iocb"]),
    ("linux/fiemap.h", &["fiemap"]),
    (
        "linux/fs.h",
        &[
            "fiemap",
            "file_clone_range",
            "file_dedupe_range",
            "FIFREEZE",
            "FITHAW",
            "FS_IOC_SHUTDOWN",
            "BLKGETSIZE64",
        ],
    ),
    (
        "linux/io_uring.h",
        &["IORING_REGISTER_BUFFERS", "IORING_UNREGISTER_BUFFERS"],
    ),
    ("linux/mempolicy.h", &["MPOL_F_NODE"]),
    ("linux/nbd.h", &["nbd_request"]),
    (
        "linux/userfaultfd.h",
        &["UFFDIO_API", "UFFDIO_WRITEPROTECT_MODE_WP"],
    ),
    ("poll.h", &["poll("]),
    ("pthread.h", &["pthread_create("]),
    ("sched.h", &["CLONE_PARENT"]),
    ("setjmp.h", &["sigjmp_buf", "sigsetjmp("]),
    (
        "signal.h",
        &[
            "sigaction",
            "SIGBUS",
            "SIGSEGV",
            "SIGKILL",
            "SIGCHLD",
            "sig_atomic_t",
        ],
    ),
    (
        "stdatomic.h",
        &["atomic_int", "atomic_uint", "atomic_ulong", "atomic_load("],
    ),
    (
        "stdint.h",
        &["uint64_t", "uint32_t", "uintptr_t", "int64_t"],
    ),
    (
        "stdio.h",
        &[
            "fprintf(",
            "snprintf(",
            "sscanf(",
            "FILE",
            "perror(",
            "rename(",
        ],
    ),
    (
        "stdlib.h",
        &[
            "calloc(",
            "malloc(",
            "free(",
            "system(",
            "exit(",
            "realpath(",
        ],
    ),
    (
        "string.h",
        &[
            "strerror(",
            "strsignal(",
            "memcpy(",
            "memset(",
            "memcmp(",
            "strlen(",
            "strncmp(",
            "strrchr(",
        ],
    ),
    (
        "sys/ioctl.h",
        &["ioctl(", "_IOWR(", "_IO(", "_IOW(", "_IOR("],
    ),
    (
        "sys/mman.h",
        &[
            "mmap(",
            "munmap(",
            "madvise(",
            "mlock(",
            "msync(",
            "mprotect(",
            "mincore(",
            "memfd_create(",
            "mremap(",
            "MAP_SHARED",
            "MAP_PRIVATE",
        ],
    ),
    ("sys/mount.h", &["mount(", "umount2("]),
    ("sys/prctl.h", &["prctl("]),
    ("sys/sendfile.h", &["sendfile("]),
    ("sys/socket.h", &["socketpair("]),
    ("sys/stat.h", &["fstat(", "stat(", "S_ISREG("]),
    ("sys/swap.h", &["swapon(", "swapoff("]),
    ("sys/syscall.h", &["syscall("]),
    ("sys/types.h", &["off_t"]),
    ("sys/uio.h", &["iovec"]),
    ("sys/wait.h", &["wait("]),
    ("time.h", &["timespec"]),
    (
        "unistd.h",
        &[
            "close(",
            "read(",
            "write(",
            "pread(",
            "pwrite(",
            "usleep(",
            "truncate(",
            "ftruncate(",
            "fsync(",
            "unlink(",
            "syscall(",
            "_exit(",
            "fork(",
            "pipe2(",
            "access(",
            "copy_file_range(",
            "getpid(",
        ],
    ),
];

/// The lines that include them, sorted.
pub(super) fn lines(program: &str) -> String {
    let words = words(program);
    let needed = HEADERS
        .iter()
        .filter(|(_, of)| of.iter().any(|w| words.contains(*w)));
    needed
        .map(|(header, _)| format!("#include <{header}>\n"))
        .collect()
}
