/* A file whose blocks are allocated and written. */
static int create(const char *path, size_t size)
{
	char *zeros = calloc(1, size + 1);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	int result = -1;

	if (fd < 0)
		goto out;
	if (size && fallocate(fd, 0, 0, size))
		goto out;
	if (pwrite(fd, zeros, size, 0) == (ssize_t)size)
		result = fsync(fd);
out:
	if (fd >= 0)
		close(fd);
	free(zeros);
	return result;
}
