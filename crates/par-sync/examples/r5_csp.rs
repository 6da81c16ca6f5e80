//! Two processes and a channel, ended by a poison, with a trace; then the four kinds of channels, and a choice.

use par_sync::csp::{self, Alternation, Stop, trace};

fn counter(mut out: csp::Writer<u32>, limit: u32) -> Result<(), Stop> {
    for number in 0..limit {
        out.write(number)?;
    }
    out.poison();
    Ok(())
}

fn printer(mut into: csp::Reader<u32>) -> Result<(), Stop> {
    loop {
        println!("{}", into.read()?);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    trace::start();
    csp::parallel(|network| {
        let (out, into) = csp::one2one();
        network.spawn("counter", move || counter(out, 5));
        network.spawn("printer", move || printer(into));
    });
    let events = trace::stop();
    let path = std::env::temp_dir().join(format!("par-r5-csp-{}.trace", std::process::id()));
    trace::write_lines(&events, &mut std::fs::File::create(&path)?)?;
    let lines = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    for line in lines.lines().filter(|line| line.contains("\"counter\"")) {
        println!("trace {line}");
    }

    // One writer or several, one reader or several: as many as the kind allows.
    let sum = |writers: u32, readers: u32, total: &std::sync::atomic::AtomicU32| -> Result<(), Stop> {
        let (out, into) = csp::any2any();
        csp::parallel(|network| {
            for _ in 0..writers {
                let mut out = out.clone();
                network.spawn("writer", move || {
                    for number in 1..=10 {
                        out.write(number)?;
                    }
                    Ok(())
                });
            }
            for _ in 0..readers {
                let mut into = into.clone();
                network.spawn("reader", move || -> Result<(), Stop> {
                    loop {
                        total.fetch_add(into.read()?, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
            drop((out, into));
        });
        Ok(())
    };
    for (name, writers, readers) in [
        ("One2One", 1, 1),
        ("One2Any", 1, 3),
        ("Any2One", 3, 1),
        ("Any2Any", 3, 3),
    ] {
        let total = std::sync::atomic::AtomicU32::new(0);
        sum(writers, readers, &total)?;
        println!("{name}: {}", total.into_inner());
    }
    // In the types: an end of one of these cannot be cloned.
    let (_one, _reader) = csp::one2any::<u32>();
    let (_writer, _one) = csp::any2one::<u32>();

    csp::parallel(|network| {
        let (mut left, mut from_left) = csp::one2one();
        let (mut right, mut from_right) = csp::one2one();
        network.spawn("left", move || Ok(left.write("left")?));
        network.spawn("right", move || Ok(right.write("right")?));
        let mut words = 0;
        while words < 2 {
            // A guard whose channel has retired can be done as well, with that word; a fair choice comes to the other.
            let chosen = Alternation::new()
                .read(&mut from_left, |word| word.ok())
                .read(&mut from_right, |word| word.ok())
                .wait();
            if let Some(word) = chosen {
                println!("chosen: {word}");
                words += 1;
            }
        }
    });
    Ok(())
}
