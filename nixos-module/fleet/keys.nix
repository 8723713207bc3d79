# OpenSSH's ed25519 public keys: their bytes, and the peer id that a host with such a key has in the network.
let
  inherit (builtins)
    concatStringsSep
    elemAt
    foldl'
    genList
    head
    length
    listToAttrs
    stringLength
    substring
    ;

  characters = text: genList (at: substring at 1 text) (stringLength text);
  base64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  base58 = characters "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

  sextets = listToAttrs (genList (at: { name = substring at 1 base64; value = at; }) 64);
  modulo = value: by: value - (value / by) * by;

  # The bytes from `from` on of what a text in base 64 stands for.
  bytesOf =
    text: from: count:
    let
      six = at: sextets.${substring at 1 text};
      byte =
        at:
        let
          group = at / 3 * 4;
        in
        elemAt [
          (six group * 4 + six (group + 1) / 16)
          (modulo (six (group + 1)) 16 * 16 + six (group + 2) / 4)
          (modulo (six (group + 2)) 4 * 64 + six (group + 3))
        ] (modulo at 3);
    in
    genList (at: byte (from + at)) count;

  # Digits of a number in base 58, the least first, and the number times 256 plus a byte.
  shift =
    digits: byte:
    let
      step =
        { done, carry }:
        digit:
        let
          value = digit * 256 + carry;
        in
        {
          done = done ++ [ (modulo value 58) ];
          carry = value / 58;
        };
      shifted = foldl' step { done = [ ]; carry = byte; } digits;
      rest = carry: if carry == 0 then [ ] else [ (modulo carry 58) ] ++ rest (carry / 58);
    in
    shifted.done ++ rest shifted.carry;

  reversed = foldl' (done: item: [ item ] ++ done) [ ];

  # A key line as its type and its text in base 64; null if it is none.
  partsOf =
    line:
    let
      plain = builtins.match "ssh-ed25519 +(AAAAC3NzaC1lZDI1NTE5AAAAI[A-P][A-Za-z0-9+/]{42})( [^\n]*)?" line;
      token = builtins.match "sk-ssh-ed25519@openssh.com +(AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAI[A-P][A-Za-z0-9+/]+={0,2})( [^\n]*)?" line;
    in
    if plain != null then
      {
        base64 = head plain;
        # The type with its length, and the length of the key, come before the key.
        keyFrom = 19;
        token = false;
      }
    else if token != null then
      {
        base64 = head token;
        keyFrom = 34;
        token = true;
      }
    else
      null;

  keyBytes =
    line:
    let
      parts = partsOf line;
    in
    bytesOf parts.base64 parts.keyFrom 32;
in
{
  # Whether a line is a host's key, or an operator's, whose key may be in a token.
  isHostKey = line: builtins.isString line && partsOf line != null && !(partsOf line).token;
  isOperatorKey = line: builtins.isString line && partsOf line != null;

  # What tells keys apart, whatever their type and comment.
  identity = line: concatStringsSep "." (map toString (keyBytes line));

  # The identity multihash of the key's protobuf form, as libp2p names peers. It begins with a zero, in base 58 a 1.
  peerId =
    line:
    let
      digits = foldl' shift [ ] ([ 36 8 1 18 32 ] ++ keyBytes line);
    in
    "1" + concatStringsSep "" (map (elemAt base58) (reversed digits));
}
