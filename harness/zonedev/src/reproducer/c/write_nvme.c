/* The controller reads the pages. */
static int write_nvme(const char *at, size_t length)
{
	int fd = open("/dev/nvme0n1", O_WRONLY | O_DIRECT);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = pwrite(fd, at, length, 0);
	close(fd);
	return n == (ssize_t)length ? 0 : -1;
}
