/* A file's pages, by way of the block device. */
static int read_blocks(const char *device, const struct fiemap *blocks,
		       off_t at, size_t length, char *into)
{
	int fd = open(device, O_RDONLY | O_DIRECT), result = fd;

	memset(into, 0, length);
	for (off_t end = at + length; result >= 0 && at < end; at += PAGE) {
		off_t block = physical(blocks, at);

		if (block >= 0 && pread(fd, into, PAGE, block) != (ssize_t)PAGE)
			result = -1;
		into += PAGE;
	}
	close(fd);
	return result < 0 ? -1 : 0;
}
