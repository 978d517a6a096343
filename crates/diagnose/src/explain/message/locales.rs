//! What glibc calls the same errors in other languages: a program that runs under LANG=de_DE logs them so.

/// Number and words, from the message catalogues of glibc 2.36: German, French, Spanish, Italian, Portuguese (also of
/// Brazil), Dutch, Polish, Russian, Japanese and Chinese. French has a second form for EADDRNOTAVAIL, of later versions.
const WORDS: &[(u16, &[&str])] = &[
    // Cannot assign requested address
    (
        99,
        &[
            "Die angeforderte Adresse kann nicht zugewiesen werden",
            "Ne peut attribuer l'adresse demandée",
            "Impossible d'assigner l'adresse demandée",
            "No se puede asignar la dirección solicitada",
            "Impossibile assegnare l'indirizzo richiesto",
            "Impossível atribuir o endereço pedido",
            "Não foi possível acessar o endereço requisitado",
            "Kan verzochte adres niet toewijzen",
            "Nie można przypisać żądanego adresu",
            "Невозможно назначить запрошенный адрес",
            "要求アドレスに割り当てられません",
            "无法指定被请求的地址",
        ],
    ),
    // Address already in use
    (
        98,
        &[
            "Die Adresse wird bereits verwendet",
            "Adresse déjà utilisée",
            "La dirección ya se está usando",
            "Indirizzo già in uso",
            "Endereço já em uso",
            "Adres is al in gebruik",
            "Adres jest już w użyciu",
            "Адрес уже используется",
            "アドレスは既に使用中です",
            "地址已在使用",
        ],
    ),
    // Too many open files in system
    (
        23,
        &[
            "Zu viele offene Dateien im System",
            "Trop de fichiers ouverts dans le système",
            "Demasiados ficheros abiertos en el sistema",
            "Troppi file aperti nel sistema",
            "Demasiados ficheiros abertos no sistema",
            "Muitos arquivos abertos no sistema",
            "Te veel open bestanden in systeem",
            "Za dużo otwartych plików w systemie",
            "Слишком много открытых файлов в системе",
            "システム中のファイルを開きすぎです",
            "系统中打开的文件过多",
        ],
    ),
    // Too many open files
    (
        24,
        &[
            "Zu viele offene Dateien",
            "Trop de fichiers ouverts",
            "Demasiados ficheros abiertos",
            "Troppi file aperti",
            "Demasiados ficheiros abertos",
            "Muitos arquivos abertos",
            "Te veel open bestanden",
            "Za dużo otwartych plików",
            "Слишком много открытых файлов",
            "ファイルを開きすぎです",
            "打开的文件过多",
        ],
    ),
    // Connection refused
    (
        111,
        &[
            "Verbindungsaufbau abgelehnt",
            "Connexion refusée",
            "Conexión rehusada",
            "Connessione rifiutata",
            "Ligação recusada",
            "Conexão recusada",
            "Verbinding is geweigerd",
            "Połączenie odrzucone",
            "В соединении отказано",
            "接続を拒否されました",
            "拒绝连接",
        ],
    ),
    // Connection timed out
    (
        110,
        &[
            "Die Wartezeit für die Verbindung ist abgelaufen",
            "Connexion terminée par expiration du délai d'attente",
            "Expiró el tiempo de conexión",
            "Connessione scaduta",
            "Ligação expirada",
            "Tempo esgotado para conexão",
            "Verbinding is verlopen",
            "Przekroczony czas oczekiwania na połączenie",
            "Время ожидания соединения истекло",
            "接続がタイムアウトしました",
            "连接超时",
        ],
    ),
    // Connection reset by peer
    (
        104,
        &[
            "Die Verbindung wurde vom Kommunikationspartner zurückgesetzt",
            "Connexion ré-initialisée par le correspondant",
            "Conexión reinicializada por la máquina remota",
            "Connessione interrotta dal corrispondente",
            "Ligação reposta pelo peer",
            "Conexão fechada pela outra ponta",
            "Verbinding is weggevallen",
            "Połączenie zerwane przez drugą stronę",
            "Соединение разорвано другой стороной",
            "接続が相手からリセットされました",
            "连接被对方重设",
        ],
    ),
    // No route to host
    (
        113,
        &[
            "Keine Route zum Zielrechner",
            "Aucun chemin d'accès pour atteindre l'hôte cible",
            "No existe ninguna ruta hasta el 'host'",
            "Nessun instradamento per l'host",
            "Sem caminho para o anfitrião",
            "Não há rota para o host",
            "Geen route naar host",
            "Brak trasy do hosta",
            "Нет маршрута до узла",
            "ホストへの経路がありません",
            "没有到主机的路由",
        ],
    ),
    // Network is unreachable
    (
        101,
        &[
            "Das Netzwerk ist nicht erreichbar",
            "Le réseau n'est pas accessible",
            "La red es inaccesible",
            "La rete non è raggiungibile",
            "Rede inacessível",
            "A rede está fora de alcance",
            "Netwerk is onbereikbaar",
            "Sieć jest niedostępna",
            "Сеть недоступна",
            "ネットワークに届きません",
            "网络不可达",
        ],
    ),
];

/// The place in `text`, in lower case, where error `number` is put in one of these languages.
pub(super) fn place(number: u16, text: &str) -> Option<usize> {
    let (_, said) = WORDS.iter().find(|(known, _)| *known == number)?;
    said.iter().filter_map(|words| text.find(&words.to_lowercase())).min()
}
