"""A Jetson's files and tools, as text.

Written after the formats of NVIDIA's Jetson Linux Developer Guide (r36.4 and r39, "Platform Power
and Performance": nvpmodel, jetson_clocks, the INA3221 and soctherm_oc nodes of hwmon, the thermal
zones and the `*-throttle-alert` cooling devices) and of what boards print in public bug reports;
the values are made up.
"""

from collections.abc import Sequence
from pathlib import Path

MODE = "NV Power Mode: MAXN_SUPER\n2\n"
# JetPack 5 puts the fan's mode first, and nvpmodel may warn
MODE_AFTER_WARNING = """NVPM WARN: fan mode is not set!
NV Fan Mode:quiet
NV Power Mode: MODE_30W
2
"""
CLOCKS_JETPACK_6 = """\
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq=1728000 MaxFreq=1728000 CurrentFreq=1728000 IdleStates: WFI=0 c7=0
cpu1:  Online=1 Governor=schedutil MinFreq=1728000 MaxFreq=1728000 CurrentFreq=1728000 IdleStates: WFI=0 c7=0
GPU MinFreq=1020000000 MaxFreq=1020000000 CurrentFreq=1020000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000 FreqOverride=1
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=69
NV Power Mode: MAXN_SUPER
"""  # noqa: E501 - as it is printed
CLOCKS_JETPACK_7 = """\
SOC family:tegra234  Machine:NVIDIA Jetson AGX Orin Developer Kit
Online CPUs: 0-11, Offline CPUs:
cpu0:  Governor=schedutil MinFreq=2201600 MaxFreq=2201600 CurrentFreq=2201600 IdleStates: WFI=0 c7=0
GPU MinFreq=1300500000 MaxFreq=1300500000 CurrentFreq=1300500000
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=3199000000
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=60
NV Power Mode: MAXN
"""
NOT_ROOT = OSError("Error: Run this script(/usr/bin/jetson_clocks) as a root user")

ORIN_NANO = {
    "proc/device-tree/compatible": (
        "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
    ),
    "proc/device-tree/model": (
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"
    ),
    "etc/nv_tegra_release": (
        "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64, "
        "DATE: Mon Jun 16 16:07:13 UTC 2025\n# KERNEL_VARIANT: oot\n"
    ),
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpu5/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu5/cpufreq/scaling_max_freq": "1728000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "49468\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "50125\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "2\n",
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "4984\n",
    "sys/class/hwmon/hwmon1/curr1_input": "1856\n",
    "sys/class/hwmon/hwmon1/in2_label": "NC\n",
    "sys/class/hwmon/hwmon1/in2_input": "1\n",
    "sys/class/hwmon/hwmon1/curr2_input": "1\n",
    "sys/class/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon1/in7_input": "1200\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc2_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def tools(mode: str | OSError = MODE, clocks: str | OSError = NOT_ROOT):
    """What `nvpmodel -q` and `jetson_clocks --show` answer."""

    def run(command: Sequence[str]) -> str | OSError:
        return {"nvpmodel": mode, "jetson_clocks": clocks}[command[0]]

    return run
