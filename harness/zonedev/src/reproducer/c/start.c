/* fork(2), but the child is the first process's. */
static int start(void (*process)(void))
{
	long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		failures = 0;
		process();
		_exit(failures != 0);
	}
	return pid < 0 ? -1 : 0;
}
