/* Takes the driver off a device. */
static int unbind(const char *path)
{
	char device[PATH_MAX], file[PATH_MAX + 16];

	if (!realpath(path, device))
		return -1;
	snprintf(file, sizeof(file), "%s/driver/unbind", device);
	return put(file, strrchr(device, '/') + 1);
}
