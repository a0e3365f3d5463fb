static int unregister_buffer(int ring)
{
	int result = syscall(SYS_io_uring_register, ring,
			     IORING_UNREGISTER_BUFFERS, NULL, 0);

	close(ring);
	return result;
}
