/* EPERM: the device has a page of the range for itself. */
static int is_exclusive(int fd, char *at, size_t length, char *copied)
{
	struct hmm_dmirror_cmd ask = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)copied,
		.npages = length / PAGE,
	};

	return ioctl(fd, HMM_DMIRROR_CHECK_EXCLUSIVE, &ask);
}
