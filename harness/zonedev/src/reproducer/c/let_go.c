static int let_go(struct disk *disk)
{
	struct io_event event = { .res = -ETIMEDOUT };
	struct timespec limit = { 20, 0 };

	disk->held = 0;
	syscall(SYS_io_getevents, disk->aio, 1, 1, &event, &limit);
	close(disk->fd);
	if (event.res == (int64_t)disk->length) {
		syscall(SYS_io_destroy, disk->aio);
		return 0;
	}
	errno = event.res < 0 ? -event.res : ECANCELED;
	return -1;
}
