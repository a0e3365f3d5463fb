/* EAGAIN: not every page was done. */
static int device(int fd, unsigned long command, char *at, size_t length,
		  char *copied)
{
	struct hmm_dmirror_cmd ask = {
		.addr = (uintptr_t)at,
		.ptr = (uintptr_t)copied,
		.npages = length / PAGE,
	};

	if (ioctl(fd, command, &ask))
		return -1;
	errno = EAGAIN;
	return ask.cpages == ask.npages ? 0 : -1;
}
