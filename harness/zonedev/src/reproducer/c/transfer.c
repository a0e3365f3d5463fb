/* An O_DIRECT transfer that goes on until it is let go. */
static int transfer(struct disk *disk, const char *path, int opcode, char *at,
		    size_t length)
{
	struct iocb io = {
		.aio_lio_opcode = opcode,
		.aio_buf = (uintptr_t)at,
		.aio_nbytes = length,
	};
	struct iocb *list = &io;
	struct timespec no_time = { 0, 0 };
	struct io_event event;

	disk->aio = 0;
	disk->came = 0;
	disk->length = length;
	disk->fd = open(path, O_RDWR | O_DIRECT);
	if (disk->fd < 0 || syscall(SYS_io_setup, 1, &disk->aio))
		return -1;
	io.aio_fildes = disk->fd;
	disk->held = 1;
	if (syscall(SYS_io_submit, disk->aio, 1, &list) != 1)
		goto failed;
	if (syscall(SYS_io_getevents, disk->aio, 0, 1, &event, &no_time)) {
		errno = event.res < 0 ? -event.res : ECANCELED;
		goto failed;
	}
	for (int i = 0; disk->came < length && i < 1000; i++)
		usleep(5000);
	if (disk->came >= length)
		return 0;
	errno = ECANCELED;
failed:
	disk->held = 0;
	close(disk->fd);
	return -1;
}
