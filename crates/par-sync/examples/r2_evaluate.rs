//! What threads cost and bring: four jobs on 1, 2, 4 and 8 threads, beside the same jobs one after the other. Best of 100; a number below 1
//! says that threads are quicker.

use par_sync::scope;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

const TIMES: usize = 100;
/// What the server takes to answer, as one far away does.
const FAR: Duration = Duration::from_millis(1);

fn fibonacci() {
    let (mut a, mut b) = (0u64, 1u64);
    for _ in 0..10_000 {
        (a, b) = (b, a.wrapping_add(b));
    }
    black_box(a);
}

fn read(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut bytes = [0; 1024];
    for _ in 0..1000 {
        file.rewind()?;
        file.read_exact(&mut bytes)?;
    }
    black_box(bytes);
    Ok(())
}

fn get(port: u16) -> std::io::Result<()> {
    for _ in 0..10 {
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        server.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        server.take(4096).read_to_end(&mut answer)?;
        assert!(answer.ends_with(&[b'x'; 1024]), "1 KiB was asked for");
    }
    Ok(())
}

/// Answers every request with 1 KiB, each in a thread.
fn serve(listener: &TcpListener) {
    for client in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let mut client = client;
            let _ = client.read(&mut [0; 256]);
            std::thread::sleep(FAR);
            let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            let _ = client.write_all(&[b'x'; 1024]);
        });
    }
}

fn best(times: usize, run: impl Fn()) -> f64 {
    let timed = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..times).map(timed).fold(f64::MAX, f64::min)
}

/// One row of the table.
fn evaluate(name: &str, times: usize, job: impl Fn() + Sync) {
    print!("{name:<12}");
    for threads in [1, 2, 4, 8] {
        let serial = best(times, || (0..threads).for_each(|_| job()));
        let threaded = best(times, || {
            scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(&job))));
        });
        print!(" {:>9.3}", threaded / serial.max(1e-9));
    }
    println!();
}

fn main() -> std::io::Result<()> {
    let mut file = tempfile()?;
    file.1.write_all(&[b'x'; 1024])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || serve(&listener));

    println!("{:<12} {:>9} {:>9} {:>9} {:>9}", "threads", 1, 2, 4, 8);
    evaluate("nothing", TIMES, || ());
    evaluate("cpu", TIMES, fibonacci);
    evaluate("file", TIMES, || read(&file.0).expect("the file is there"));
    // Each takes ten answers from far away.
    evaluate("network", 5, || get(port).expect("the server answers"));
    std::fs::remove_file(&file.0)
}

/// A file that nobody else has.
fn tempfile() -> std::io::Result<(std::path::PathBuf, File)> {
    let path = std::env::temp_dir().join(format!("par-r2-evaluate-{}", std::process::id()));
    let file = File::create_new(&path)?;
    Ok((path, file))
}
