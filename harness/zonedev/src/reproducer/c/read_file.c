/* Zeros stand for what lies behind the end of the file in its last page. */
static int read_file(const char *path, off_t at, size_t length, char *into)
{
	int fd = open(path, O_RDWR);
	struct stat stat;
	ssize_t n = -1;
	char beyond[8];

	if (fd < 0)
		return -1;
	memset(into, 0, length);
	if (!fstat(fd, &stat))
		n = pread(fd, into, length, at);
	if (n >= 0 && (n + PAGE - 1) / PAGE < length / PAGE) {
		errno = ENODATA;
		n = -1;
	}
	/* A read that begins at the end of the file comes to nothing. */
	if (n >= 0 && pread(fd, beyond, sizeof(beyond), stat.st_size)) {
		errno = EOVERFLOW;
		n = -1;
	}
	close(fd);
	return n < 0 ? -1 : 0;
}
