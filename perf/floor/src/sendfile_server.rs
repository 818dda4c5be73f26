//! The floor of every fetch: pieces of one file, sent by `sendfile(2)` with nothing around them.
//! One blocking connection at a time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use clap::Args;

use crate::floor_frames::{READ_BYTES, parse_read};
use crate::pinning::pin;
use crate::prepared_file::{self, Blocks};

/// Flags of `sendfile-server`.
#[derive(Debug, Args)]
pub struct SendfileServerArgs {
    /// Address to serve on; port 0 picks one, which the `ready` line names.
    #[arg(long, default_value = "127.0.0.1:9301")]
    listen: SocketAddr,
    /// File to send; written with direct I/O at start if it has another size than asked for.
    #[arg(long)]
    file: PathBuf,
    /// Size of the file in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    file_bytes: u64,
    /// CPU core to pin to.
    #[arg(long)]
    core: Option<usize>,
}

/// Serves until the process is ended.
///
/// # Errors
/// Whatever the kernel says while preparing the file or accepting.
pub fn run(args: &SendfileServerArgs) -> io::Result<()> {
    pin(args.core)?;
    if !std::fs::metadata(&args.file).is_ok_and(|metadata| metadata.len() == args.file_bytes) {
        prepared_file::create(&args.file, args.file_bytes, Blocks::Written, 0)?;
    }
    let file = File::open(&args.file)?;
    let listener = TcpListener::bind(args.listen)?;
    println!("ready {}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        if let Err(error) = serve(&socket, &file, args)
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            eprintln!("connection closed: {error}");
        }
    }
}

fn serve(mut socket: &TcpStream, file: &File, args: &SendfileServerArgs) -> io::Result<()> {
    let mut request = [0; READ_BYTES];
    loop {
        socket.read_exact(&mut request)?;
        let (offset, bytes) =
            parse_read(&request).ok_or_else(|| io::Error::other("not a read request"))?;
        let bytes = u64::from(bytes).min(args.file_bytes.saturating_sub(offset));
        send_piece(socket, file, offset, bytes as usize)?;
    }
}

fn send_piece(socket: &TcpStream, file: &File, offset: u64, bytes: usize) -> io::Result<()> {
    let length = (bytes as u32).to_be_bytes();
    let more = if bytes > 0 { libc::MSG_MORE } else { 0 };
    // SAFETY: four bytes that live through the call.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            length.as_ptr().cast(),
            length.len(),
            libc::MSG_NOSIGNAL | more,
        )
    };
    if sent != length.len() as isize {
        return Err(io::Error::last_os_error());
    }
    let mut position = offset as libc::off_t;
    let end = position + bytes as libc::off_t;
    while position < end {
        // SAFETY: both descriptors are open and `position` lives through the call.
        let sent = unsafe {
            libc::sendfile(
                socket.as_raw_fd(),
                file.as_raw_fd(),
                &raw mut position,
                (end - position) as usize,
            )
        };
        match sent {
            0 => return Err(io::Error::other("the file ended early")),
            1.. => {}
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}
