static int copy_file(const char *path, const char *to, size_t length)
{
	int from = open(path, O_RDWR);
	int fd = open(to, O_RDWR | O_CREAT | O_EXCL, 0600);
	off_t at = 0;
	ssize_t n = -1;
	int result = -1;

	while (from >= 0 && fd >= 0 && length) {
		n = copy_file_range(from, &at, fd, NULL, length, 0);
		if (n <= 0)
			break;
		length -= n;
	}
	if (!length)
		result = fsync(fd);
	close(from);
	close(fd);
	return result;
}
