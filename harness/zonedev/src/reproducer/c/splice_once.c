/* References to pages go into a pipe, and go with it. */
static int splice_once(char *at, size_t length)
{
	struct iovec from = { at, length };
	int ends[2], result;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	result = vmsplice(ends[1], &from, 1, SPLICE_F_NONBLOCK);
	close(ends[0]);
	close(ends[1]);
	return result < 0 ? -1 : 0;
}
