/* write(2) to the start or the end of every page. */
static int write_file(const char *path, off_t at, size_t length, uint64_t word,
		      int where)
{
	int fd = open(path, O_RDWR), result = fd;

	for (off_t end = at + length; result >= 0 && at < end; at += PAGE, word++) {
		uint64_t tail = ~word;

		if (where & HEAD && pwrite(fd, &word, 8, at) != 8)
			result = -1;
		if (where & TAIL && pwrite(fd, &tail, 8, at + PAGE - 8) != 8)
			result = -1;
	}
	close(fd);
	return result < 0 ? -1 : 0;
}
