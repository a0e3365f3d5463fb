static int uffd = -1;

/* Stores raise SIGBUS from then on; the same again without `mode` ends it. */
static int write_protect(char *at, size_t length, uint64_t mode)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_SIGBUS,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)at, length },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)at, length },
		.mode = mode,
	};

	if (uffd < 0) {
		uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
		if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
			return -1;
	}
	if (mode && ioctl(uffd, UFFDIO_REGISTER, &reg))
		return -1;
	return ioctl(uffd, UFFDIO_WRITEPROTECT, &protect);
}
