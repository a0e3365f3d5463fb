/* A registered buffer of io_uring is pinned for as long as it is one. */
static int register_buffer(int *ring, char *at, size_t length)
{
	struct io_uring_params params = { 0 };
	struct iovec buffer = { at, length };

	*ring = syscall(SYS_io_uring_setup, 1, &params);
	if (*ring < 0)
		return -1;
	if (!syscall(SYS_io_uring_register, *ring, IORING_REGISTER_BUFFERS,
		     &buffer, 1))
		return 0;
	close(*ring);
	return -1;
}
