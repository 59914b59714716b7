/** Files of the kernel that tell about the machine or reach into it: an empty file or directory lies over each. */
export const MASKED_PATHS: Readonly<Record<string, string>> = {
  '/proc/acpi': 'hardware',
  '/proc/asound': 'hardware',
  '/proc/interrupts': 'timing of other tenants’ work',
  '/proc/kcore': 'the kernel’s memory',
  '/proc/keys': 'keyrings of the machine',
  '/proc/latency_stats': 'stack traces of other tenants’ work',
  '/proc/sched_debug': 'names of other tenants’ processes',
  '/proc/scsi': 'hardware commands',
  '/proc/timer_list': 'names of other tenants’ processes',
  '/proc/timer_stats': 'names of other tenants’ processes',
  '/sys/devices/virtual/powercap': 'energy use leaks what others compute (CVE-2020-8694)',
  '/sys/firmware': 'hardware tables',
  '/sys/fs/selinux': 'the machine’s policy',
}

/** Files of the kernel that a pod may read and must not write. */
export const READONLY_PATHS: Readonly<Record<string, string>> = {
  '/proc/bus': 'hardware',
  '/proc/fs': 'settings of file systems',
  '/proc/irq': 'placement of interrupts',
  '/proc/sys': 'kernel parameters',
  '/proc/sysrq-trigger': 'commands to the kernel',
}
