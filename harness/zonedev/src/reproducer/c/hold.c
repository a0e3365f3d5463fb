/* References to the pages of a range, in a pipe. */
static int hold(int ends[2], char *at, size_t length)
{
	struct iovec rest = { at, length };

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	if (fcntl(ends[1], F_SETPIPE_SZ, length) < 0)
		goto failed;
	while (rest.iov_len) {
		ssize_t n = vmsplice(ends[1], &rest, 1, SPLICE_F_NONBLOCK);

		if (n <= 0)
			goto failed;
		rest.iov_base = (char *)rest.iov_base + n;
		rest.iov_len -= n;
	}
	return 0;
failed:
	close(ends[0]);
	close(ends[1]);
	return -1;
}
