/* No driver has a device of these any more, and none of them is mounted. */
static int torn_down(void)
{
	static const char *const left[] = {
		"/sys/bus/nd/devices/namespace*/driver",
		"/sys/bus/nd/devices/pfn*/driver",
		"/sys/bus/nd/devices/dax*/driver",
		"/sys/bus/cxl/devices/region*/driver",
		"/sys/bus/dax/devices/*/driver",
		"/sys/module/test_hmm/refcnt",
	};
	char line[1024];
	FILE *mounts = fopen("/proc/mounts", "r");
	int busy = 0;

	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		glob_t found;

		if (!glob(left[i], 0, NULL, &found)) {
			fprintf(stderr, "%s is left\n", found.gl_pathv[0]);
			busy = 1;
			globfree(&found);
		}
	}
	while (mounts && fgets(line, sizeof(line), mounts)) {
		if (!strncmp(line, "/dev/pmem", 9)) {
			fprintf(stderr, "a mount is left: %s", line);
			busy = 1;
		}
	}
	if (mounts)
		fclose(mounts);
	errno = EBUSY;
	return -busy;
}
