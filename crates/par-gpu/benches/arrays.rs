//! Arrays on the cpu device against numpy, and launches on OpenCL against the same in C: `cargo bench -p par-gpu`, with
//! `--features opencl` for the launches.
//!
//! Both sides run in turn, and medians are printed. numpy comes from `python3`, or from what `PAR_GPU_PYTHON` names; the C
//! program is compiled with `cc -lOpenCL`. What is not there is said, and left out.

use par_gpu::{Array, Device, Sum, kernel, map, map_into, map_reduce};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const LEN: usize = 1 << 24;
const ROUNDS: usize = 41;

#[kernel]
fn axpby(x: f32, y: f32) -> f32 {
    2.0 * x + 5.0 * y
}

#[kernel]
fn times(x: f32, y: f32) -> f32 {
    x * y
}

/// Runs one of the lines that it reads, and prints its seconds.
const PYTHON: &str = "
import sys, time
import numpy as np
n = int(sys.argv[1])
x = (np.arange(n, dtype=np.uint32) % 1000).astype(np.float32)
y = (np.arange(n, dtype=np.uint32) % 777).astype(np.float32)
z, t = np.empty_like(x), np.empty_like(x)
def into():
    np.multiply(x, 2, out=z)
    np.multiply(y, 5, out=t)
    np.add(z, t, out=z)
def new():
    return 2 * x + 5 * y
work = dict(into=into, new=new, sum=x.sum, dot=lambda: x.dot(y))
print('ready', np.__version__, flush=True)
for line in sys.stdin:
    f = work[line.strip()]
    start = time.perf_counter()
    r = f()
    end = time.perf_counter()
    del r
    print(end - start, flush=True)
";

struct Python {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Python {
    fn start() -> Option<Self> {
        let python = std::env::var("PAR_GPU_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .args(["-c", PYTHON, &LEN.to_string()])
            // Its own choice of kernels for this processor.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stdout.take()?);
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let mut python = Python { child, lines };
        match line.strip_prefix("ready ") {
            Some(version) => {
                println!("numpy {}", version.trim());
                Some(python)
            }
            None => {
                let _ = python.child.wait();
                None
            }
        }
    }

    fn seconds(&mut self, what: &str) -> f64 {
        writeln!(self.child.stdin.as_mut().expect("a pipe"), "{what}").expect("python reads");
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("python answers");
        line.trim().parse().expect("seconds")
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends with its input.
        let _ = self.child.wait();
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let value = black_box(run());
    let seconds = start.elapsed().as_secs_f64();
    drop(value);
    seconds
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Both sides in turn.
fn side_by_side(name: &str, what: &str, python: &mut Option<Python>, mut ours: impl FnMut() -> f64) {
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    // The first run of each touches memory and wakes threads.
    ours();
    for _ in 0..ROUNDS {
        theirs.extend(python.as_mut().map(|python| python.seconds(what)));
        mine.push(ours());
    }
    if theirs.is_empty() {
        println!("{name}: {:.2} ms", median(&mut mine) * 1e3);
    } else {
        report(name, "ms", 1e3, &mut mine, "numpy", &mut theirs);
    }
}

/// Medians and their ratio; and the least of each, as others may use the machine too.
fn report(name: &str, unit: &str, scale: f64, mine: &mut [f64], other: &str, theirs: &mut [f64]) {
    let (m, t) = (median(mine) * scale, median(theirs) * scale);
    let (least_m, least_t) = (mine[0] * scale, theirs[0] * scale);
    println!(
        "{name}: {m:.2} {unit}, {other} {t:.2} {unit}, ratio {:.2}; least {least_m:.2} and {least_t:.2}, ratio {:.2}",
        m / t,
        least_m / least_t
    );
}

fn main() {
    let device = Device::cpu();
    let info = device.info();
    println!(
        "{} x {}, {LEN} f32, medians of {ROUNDS}",
        info.compute_units, info.model
    );
    let mut python = Python::start();
    if python.is_none() {
        println!("no numpy here: `pip install numpy`, or name a python that has it in PAR_GPU_PYTHON");
    }
    let values = |modulus: usize| {
        device
            .collect((0..LEN).map(|i| (i % modulus) as f32))
            .expect("an array")
    };
    let (x, y) = (values(1000), values(777));
    let mut z: Array<f32> = device.zeros(LEN).expect("an array");
    side_by_side("2x + 5y into an array", "into", &mut python, || {
        timed(|| map_into::<axpby>((&x, &y), &mut z).expect("a map"))
    });
    side_by_side("2x + 5y as a new array", "new", &mut python, || {
        timed(|| map::<axpby>((&x, &y)).expect("a map"))
    });
    side_by_side("sum", "sum", &mut python, || {
        timed(|| x.reduce(Sum).expect("a sum"))
    });
    side_by_side("dot product", "dot", &mut python, || {
        timed(|| map_reduce::<times, _>((&x, &y), Sum).expect("a sum"))
    });
    drop(python);
    #[cfg(feature = "opencl")]
    launches::compare();
}

#[cfg(feature = "opencl")]
mod launches {
    //! A tiny kernel: arguments, launch, wait.

    use super::*;
    use std::path::Path;

    const LAUNCHES: usize = 20;
    const TURNS: usize = 401;

    #[kernel]
    fn bump(a: f32, x: f32) -> f32 {
        a * x
    }

    /// The same with the C interface; prints nanoseconds of each launch of a turn for each line that it reads.
    const PROGRAM: &str = r#"
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static const char *source =
  "__kernel void par_entry(const ulong len, __global float *out, const float a0, __global const float *a1) {"
  "  const ulong i = get_global_id(0); if (i < len) out[i] = a0 * a1[i]; }";
static void check(cl_int status) { if (status) { fprintf(stderr, "status %d\n", status); exit(1); } }
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
int main(void) {
  cl_platform_id platform; cl_device_id device; cl_int status;
  check(clGetPlatformIDs(1, &platform, 0));
  check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, 0));
  cl_context context = clCreateContext(0, 1, &device, 0, 0, &status); check(status);
  cl_command_queue queue = clCreateCommandQueue(context, device, 0, &status); check(status);
  cl_program program = clCreateProgramWithSource(context, 1, &source, 0, &status); check(status);
  check(clBuildProgram(program, 1, &device, "-cl-std=CL1.2", 0, 0));
  cl_kernel kernel = clCreateKernel(program, "par_entry", &status); check(status);
  float host[256] = {0};
  cl_mem x = clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof host, host, &status); check(status);
  cl_mem out = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof host, 0, &status); check(status);
  cl_ulong len = 256; cl_float a = 2; size_t global = 256, local = 256;
  char line[16];
  while (fgets(line, sizeof line, stdin)) {
    for (int i = 0; i < LAUNCHES; i++) {
      long start = now();
      check(clSetKernelArg(kernel, 0, sizeof len, &len));
      check(clSetKernelArg(kernel, 1, sizeof out, &out));
      check(clSetKernelArg(kernel, 2, sizeof a, &a));
      check(clSetKernelArg(kernel, 3, sizeof x, &x));
      check(clEnqueueNDRangeKernel(queue, kernel, 1, 0, &global, &local, 0, 0, 0));
      check(clFinish(queue));
      printf("%ld\n", now() - start);
    }
    fflush(stdout);
  }
  return 0;
}
"#;

    /// Compiles the program.
    fn compiled(folder: &Path) -> Option<std::path::PathBuf> {
        let (source, program) = (folder.join("launch.c"), folder.join("launch"));
        std::fs::write(&source, PROGRAM).ok()?;
        let mut cc = Command::new("cc");
        cc.arg("-O2")
            .arg(format!("-DLAUNCHES={LAUNCHES}"))
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg("-lOpenCL");
        cc.status().ok()?.success().then_some(program)
    }

    /// Compares with C on the first device.
    pub(super) fn compare() {
        let devices = Device::list();
        let Some(device) = devices.iter().find(|device| device.info().backend == "opencl") else {
            println!("no OpenCL device: {:?}", Device::problems());
            return;
        };
        let x = device.array(&[0.0f32; 256]).expect("an array");
        let mut out = device.zeros::<f32>(256).expect("an array");
        let mut turn = || -> Vec<f64> {
            let mut launch = || {
                timed(|| {
                    map_into::<bump>((2.0, &x), &mut out).expect("a launch");
                    device.synchronize().expect("done");
                })
            };
            (0..LAUNCHES).map(|_| launch() * 1e6).collect()
        };
        let folder = tempfile::tempdir().expect("a folder");
        let Some(program) = compiled(folder.path()) else {
            println!(
                "launch: {:.2} us (no C compiler with OpenCL's headers to compare with)",
                median(&mut turn())
            );
            return;
        };
        let mut c = Command::new(program);
        let mut c = c
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the C program");
        let mut lines = BufReader::new(c.stdout.take().expect("a pipe")).lines();
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        turn();
        for _ in 0..TURNS {
            writeln!(c.stdin.as_mut().expect("a pipe"), "go").expect("it reads");
            for _ in 0..LAUNCHES {
                let line = lines.next().expect("a line").expect("text");
                theirs.push(line.parse::<f64>().expect("nanoseconds") / 1e3);
            }
            mine.extend(turn());
        }
        drop(c.stdin.take());
        // It ends with its input.
        let _ = c.wait();
        let name = format!("launch of 256 elements on {}", device.info().model);
        report(&name, "us", 1.0, &mut mine, "in C", &mut theirs);
    }
}
