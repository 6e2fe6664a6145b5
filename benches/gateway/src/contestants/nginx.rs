//! nginx as a reverse proxy: connections kept on both sides, nothing buffered (as streams need it), the second provider
//! as `backup`.

use std::{path::Path, process::Command};

use super::{Gateway, LIMIT, Surroundings, version};
use crate::dialect::Dialect;

pub(super) fn gateway(surroundings: &Surroundings) -> Result<Gateway, String> {
    let said = version(Path::new("nginx"), &["-v"])?;
    let Surroundings { primary, backup, listen, .. } = surroundings;
    let Surroundings { workers, .. } = surroundings;
    let limit = LIMIT.as_secs();
    // In the foreground, and without a master, which would only watch the worker, where there is one.
    let master = if *workers > 1 { "on" } else { "off" };
    let reuse = if *workers > 1 { " reuseport" } else { "" };
    let text = format!(
        "daemon off; master_process {master}; worker_processes {workers}; pid nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_body_buffer_size 1m;
    keepalive_timeout 600s; keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream providers {{
        server {primary} max_fails=5 fail_timeout=60s;
        server {backup} backup;
        keepalive 512; keepalive_requests 1000000000; keepalive_timeout 600s;
    }}
    server {{
        listen {listen} backlog=1024{reuse};
        location / {{
            proxy_pass http://providers;
            proxy_http_version 1.1; proxy_set_header Connection \"\";
            proxy_buffering off;
            proxy_connect_timeout {limit}s; proxy_read_timeout {limit}s;
            proxy_next_upstream error timeout http_503 non_idempotent;
        }}
    }}
}}
"
    );
    let file = surroundings.write("nginx.conf", &text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&surroundings.folder).arg("-c").arg(file);
    let target = surroundings.target(Dialect::OpenAi, "gpt-4o-mini");
    Ok(Gateway { version: said.replace("nginx version: ", ""), command, target, says: None })
}
